"""Prompts in the host's API form, built from the repository's own workflow."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from devtools.client import ComfyClient, Outcome
from devtools.paths import SAMPLE_PHOTO, WORKFLOWS
from devtools.workflow import Prompt, load_workflow, to_prompt
from tests.support.keys import ensure_key

MEASURING = ("FacePrivacy_PrivacyReport",)
ENCRYPT = "FacePrivacy_KeyedEncrypt"
DECRYPT = "FacePrivacy_KeyedDecrypt"
SAVE_KEYED = "FacePrivacy_SaveKeyedImage"
SAVE_CLEAN = "FacePrivacy_SaveCleanImage"
KEYED_PICTURE = "encrypted_00001_.png"
"""What the encrypt workflow writes first, and the decrypt workflow opens."""
RUN_LIMIT_S = 600.0


@dataclass(frozen=True)
class Run:
    """A finished prompt.

    Attributes:
        pictures: Saved pictures in order, (H, W, 3) uint8.
        executed: Types of the nodes that were computed, in order; cached ones are missing.
        outcome: What the host's history holds.
    """

    pictures: list[NDArray[np.uint8]]
    executed: list[str]
    outcome: Outcome


def anonymize_prompt(object_info: Mapping[str, Any], image: str, *, steps: int = 3, seed: int = 7) -> Prompt:
    """Return the shipped anonymise workflow on one uploaded picture, short and without its report."""
    prompt = to_prompt(load_workflow(WORKFLOWS / "Block by Block - Anonymize Faces.json"), object_info)
    for kind in MEASURING:
        del prompt[node_id(prompt, kind)]
    inputs(prompt, "LoadImage").update(image=image)
    inputs(prompt, "KSampler").update(steps=steps, seed=seed, denoise=0.6)
    return prompt


def node_id(prompt: Prompt, kind: str) -> str:
    """Return the id of the only node of a type."""
    (found,) = [key for key, node in prompt.items() if node["class_type"] == kind]
    return found


def inputs(prompt: Prompt, kind: str) -> dict[str, Any]:
    """Return the inputs of the only node of a type, to be changed in place."""
    return prompt[node_id(prompt, kind)]["inputs"]


def add(prompt: Prompt, kind: str, **values: Any) -> str:
    """Add a node and return its id; a link is `[id, slot]`."""
    new = str(1 + max((int(key) for key in prompt), default=0))
    prompt[new] = {"class_type": kind, "inputs": values, "_meta": {"title": kind}}
    return new


def keep_only(prompt: Prompt, *kinds: str) -> Prompt:
    """Drop all nodes of other types, and return the prompt."""
    for key in [key for key, node in prompt.items() if node["class_type"] not in kinds]:
        del prompt[key]
    return prompt


def widget_defaults(node: Any) -> dict[str, Any]:
    """Return the values with which a node class of the pack starts, by input."""
    found = {}
    for entry in node.GET_SCHEMA().inputs:
        if hasattr(entry, "default"):
            is_menu = entry.default is None and getattr(entry, "options", None)
            found[entry.id] = entry.options[0] if is_menu else entry.default
    return found


def save_mask(prompt: Prompt, mask: list[Any], prefix: str = "mask") -> str:
    """Save a mask as a gray picture and return the id of the saving node."""
    picture = add(prompt, "MaskToImage", mask=mask)
    return add(prompt, "SaveImage", images=[picture, 0], filename_prefix=prefix)


def save_touched(prompt: Prompt) -> Prompt:
    """Also save where Face Mask's mask is above 0, and return the prompt; a saved mask would round small values to 0."""
    touched = add(prompt, "ThresholdMask", mask=[node_id(prompt, "FacePrivacy_FaceMask"), 1], value=0.0)
    save_mask(prompt, [touched, 0])
    return prompt


def plain_prompt(image: str) -> Prompt:
    """Return the smallest prompt that computes something: load, invert the colours, save."""
    prompt: Prompt = {}
    loaded = add(prompt, "LoadImage", image=image)
    inverted = add(prompt, "ImageInvert", image=[loaded, 0])
    add(prompt, "SaveImage", images=[inverted, 0], filename_prefix="plain")
    return prompt


def run(client: ComfyClient, prompt: Prompt) -> Run:
    """Run a prompt and fetch what its saving nodes (and Preview Image) wrote, in the order of their ids."""
    executed: list[str] = []
    names = {node["_meta"]["title"]: node["class_type"] for node in prompt.values()}

    def follow(done: float, title: str) -> None:
        kind = names.get(title, title)
        if kind not in executed:
            executed.append(kind)

    outcome = client.run(prompt, on_progress=follow, timeout_s=RUN_LIMIT_S)
    pictures = []
    for key in sorted(outcome.outputs, key=int):
        if prompt[key]["class_type"] in ("SaveImage", "PreviewImage", SAVE_KEYED, SAVE_CLEAN):
            pictures.extend(fetch(client, image) for image in outcome.outputs[key]["images"])
    return Run(pictures, executed, outcome)


def fetch(client: ComfyClient, image: Mapping[str, str]) -> NDArray[np.uint8]:
    """Fetch a saved picture as (H, W, 3) uint8."""
    with Image.open(io.BytesIO(client.fetch(image))) as picture:
        return np.asarray(picture.convert("RGB")).copy()


def check_pictures(client: ComfyClient, outputs: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that a finished run left pictures, and that each shows something."""
    images = [image for output in outputs.values() for image in output.get("images", [])]
    assert images
    for image in images:
        low, high = Image.fromarray(fetch(client, image)).convert("L").getextrema()
        assert low < high, f"{image['filename']} shows one colour only."


def upload(client: ComfyClient, folder: Path, name: str, pixels: NDArray[Any] | Image.Image) -> str:
    """Write pixels as PNG, upload them, and return the name under which LoadImage finds them."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    path = folder / f"{name}.png"
    picture.save(path)
    return client.upload(path)


def sample(path: Path) -> NDArray[np.uint8]:
    """Read a sample picture as (H, W, 3) uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).copy()


def gradient(height: int = 200, width: int = 240) -> NDArray[np.uint8]:
    """Draw a smooth picture without a face."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], axis=-1).astype(np.uint8)


def forget(client: ComfyClient) -> None:
    """Let the host drop everything it has cached, before its next prompt."""
    body, headers = b'{"free_memory": true}', {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{client.url}/free", body, headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.status == 200


def encrypt_prompt(object_info: Mapping[str, Any], image: str, *, key: str = "default", **settings: Any) -> Prompt:
    """Return the shipped encrypt workflow on one uploaded picture; `settings` are those of Keyed Encrypt."""
    prompt = to_prompt(load_workflow(WORKFLOWS / "Encrypt Faces.json"), object_info)
    inputs(prompt, "LoadImage").update(image=image)
    inputs(prompt, "FacePrivacy_PrivacyKey").update(name=key, create=False)
    inputs(prompt, ENCRYPT).update(settings)
    return prompt


def invert_prompt(object_info: Mapping[str, Any], image: str, *, key: str = "default", **settings: Any) -> Prompt:
    """Return a prompt that covers faces with inverted colours and seals them exactly: needs no model, so it is fast."""
    prompt = encrypt_prompt(object_info, image, key=key, mode="exact", **settings)
    for name in ("model", "vae", "positive", "recognizers"):
        del inputs(prompt, ENCRYPT)[name]
    for kind in ("FacePrivacy_LoadBuiltinFaceModel", "FacePrivacy_LoadFaceRecognizers"):
        del prompt[node_id(prompt, kind)]
    inverted = add(prompt, "ImageInvert", image=inputs(prompt, ENCRYPT)["image"])
    inputs(prompt, ENCRYPT).update(cover=[inverted, 0], size=512)
    return prompt


def decrypt_prompt(object_info: Mapping[str, Any], image: str, *, key: str = "default", numbers: str = "") -> Prompt:
    """Return the shipped decrypt workflow on one uploaded keyed picture."""
    prompt = to_prompt(load_workflow(WORKFLOWS / "Decrypt Faces.json"), object_info)
    inputs(prompt, "FacePrivacy_LoadKeyedImage").update(image=image)
    inputs(prompt, "FacePrivacy_PrivacyKey").update(name=key)
    inputs(prompt, DECRYPT).update(numbers=numbers)
    return prompt


def provide_keyed(client: ComfyClient, base: Path, prompt: Prompt, object_info: Mapping[str, Any]) -> None:
    """Make the keys that a prompt names, and the picture of the encrypt workflow that decrypt begins with."""
    for node in prompt.values():
        if node["class_type"] == "FacePrivacy_PrivacyKey":
            ensure_key(base, node["inputs"]["name"])
    wanted = base / "output" / KEYED_PICTURE
    names = [node["inputs"].get("image") for node in prompt.values()]
    if f"{KEYED_PICTURE} [output]" in names and not wanted.is_file():
        made = encrypt_prompt(object_info, client.upload(SAMPLE_PHOTO))
        with ThreadPoolExecutor(1) as pool:  # beside a browser, this thread's event loop is taken
            outcome = pool.submit(client.run, made, timeout_s=RUN_LIMIT_S).result()
        (image,) = outcome.outputs[node_id(made, SAVE_KEYED)]["images"]
        wanted.write_bytes(client.fetch(image))
