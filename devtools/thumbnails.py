"""Pictures of templates and documents, from what templates really give. Runs inside the venv, with its own host and keys."""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from devtools.client import ComfyClient
from devtools.comfyui import make_base
from devtools.console import DevError, say, step
from devtools.options import thumbnails_parser
from devtools.paths import DOCS_IMAGES, HOST_TREE, SAMPLE_PHOTO, WORKFLOWS, shown
from devtools.results import Verdict, read_report, table
from devtools.server import ComfyServer, run_to_the_end
from devtools.workflow import Prompt, load_workflow, to_prompt

SIZE = (640, 400)
QUALITY = 88
RUN_LIMIT_S = 3600.0
RESULTS = ("FacePrivacy_SaveCleanImage", "FacePrivacy_SaveKeyedImage", "PreviewImage")
"""Nodes that show a result, the one to take first."""

AFTER = {
    "Decrypt Faces": "Encrypt Faces",
    "Block by Block - Recover Faces": "Block by Block - Hide Identity",
    "Checkpoint - Decrypt Faces": "Checkpoint - Encrypt Faces",
    "Checkpoint - Recover Faces": "Checkpoint - Hide Identity",
}
"""Templates that open what another one wrote."""

DOCUMENTS = {
    "before_after": ("Anonymize Faces",),
    "cloak": ("Block by Block - Cloak Faces",),
    "keyed": ("Encrypt Faces", "Decrypt Faces"),
}
"""Pictures of docs/images: the sample photo, then the results of these templates, side by side."""

DOCUMENT_WIDTH = 1500

NEEDS_CHECKPOINT = "Checkpoint - "
WITHOUT_CHECKPOINT = ("LoadImage", "FacePrivacy_FaceMask")
"""What of a template runs without a checkpoint of the user's: finding and numbering the faces. One that brings faces back finds
none, and shows the photo."""

NUMBERED_OUTPUT = 3
"""Output of Face Mask with the numbered faces."""


def make_thumbnails(names: list[str]) -> None:
    """Run templates on a fresh host and write NAME.jpg beside each: what it begins with above, the result below.

    Pictures of the documents are written, too, when all templates that they show are among those.

    Args:
        names: Templates; none means all.

    Raises:
        DevError: A name is unknown, or a template gives no picture.
    """
    known = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise DevError(f"Expected names of templates ({', '.join(known)}), got {', '.join(unknown)}.")
    wanted = [name for name in known if not names or name in names]
    needed = {*wanted, *(AFTER[name] for name in wanted if name in AFTER)}
    with tempfile.TemporaryDirectory(prefix="face-privacy-thumbnails-") as folder:
        base = make_base(Path(folder))
        environment = {"FACEPRIVACY_KEY_DIR": str(base / "keys")}
        with ComfyServer(HOST_TREE, base, environment=environment) as server:
            client = ComfyClient(server.url)
            object_info = client.object_info()
            results: dict[str, Image.Image] = {}
            for name in sorted(needed, key=lambda name: (name in AFTER, name)):
                with step(f"Run {name}"):
                    results[name] = _result(client, name, object_info)
                if name in wanted:
                    _write(WORKFLOWS / f"{name}.jpg", results.get(AFTER.get(name, ""), _photo()), results[name])
    for document, shown_templates in DOCUMENTS.items():
        if set(shown_templates) <= set(wanted):
            _write_row(DOCS_IMAGES / f"{document}.jpg", [_photo(), *(results[name] for name in shown_templates)])


def _result(client: ComfyClient, name: str, object_info: Mapping[str, Any]) -> Image.Image:
    prompt = to_prompt(load_workflow(WORKFLOWS / f"{name}.json"), object_info)
    if name.startswith(NEEDS_CHECKPOINT):
        if name in AFTER:
            return _photo()
        prompt = _without_checkpoint(prompt)
    outputs = client.run(prompt, timeout_s=RUN_LIMIT_S).outputs
    verdicts = _verdicts(outputs)
    if verdicts:
        say("\n" + "\n".join(table(verdicts)))
    images = outputs.get(_showing(prompt), {}).get("images", [])
    if not images:
        raise DevError(f"The template {name} gave no picture. Run it in the frontend to see why.")
    with Image.open(io.BytesIO(client.fetch(images[0]))) as picture:
        return picture.convert("RGB")


def _verdicts(outputs: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Return what recognisers see, for the texts beside the picture; nothing where a template measures nothing."""
    for output in outputs.values():
        for text in output.get("text", ()):
            try:
                report = json.loads(text)
            except ValueError:
                continue
            if isinstance(report, dict) and (verdicts := read_report(report)):
                return verdicts
    return []


def _without_checkpoint(prompt: Prompt) -> Prompt:
    """Keep what finds and numbers the faces, and show that."""
    kept = {key: node for key, node in prompt.items() if node["class_type"] in WITHOUT_CHECKPOINT}
    (mask,) = [key for key, node in kept.items() if node["class_type"] == WITHOUT_CHECKPOINT[-1]]
    kept["preview"] = {
        "class_type": "PreviewImage", "inputs": {"images": [mask, NUMBERED_OUTPUT]}, "_meta": {"title": "Preview Image"}
    }  # fmt: skip
    return kept


def _showing(prompt: Prompt) -> str:
    """Return the id of the node that shows the result."""
    for kind in RESULTS:
        for key, node in prompt.items():
            if node["class_type"] == kind:
                return key
    raise DevError(f"Expected a node among {', '.join(RESULTS)}, the template has none.")


def _photo() -> Image.Image:
    with Image.open(SAMPLE_PHOTO) as photo:
        return photo.convert("RGB")


def _write(path: Path, before: Image.Image, after: Image.Image) -> None:
    thumbnail = Image.new("RGB", (SIZE[0], 2 * SIZE[1]))
    for row, picture in enumerate((before, after)):
        thumbnail.paste(ImageOps.fit(picture, SIZE), (0, row * SIZE[1]))
    thumbnail.save(path, quality=QUALITY, optimize=True)
    say(f"Written: {shown(path)}")


def _write_row(path: Path, pictures: Sequence[Image.Image]) -> None:
    width = DOCUMENT_WIDTH // len(pictures)
    height = round(width * pictures[0].height / pictures[0].width)
    row = Image.new("RGB", (width * len(pictures), height))
    for number, picture in enumerate(pictures):
        row.paste(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS), (number * width, 0))
    row.save(path, quality=QUALITY, optimize=True)
    say(f"Written: {shown(path)}")


def main() -> int:
    """Run from the command line; the set-up must be done."""
    options: argparse.Namespace = thumbnails_parser().parse_args()
    return run_to_the_end(lambda: make_thumbnails(options.names))


if __name__ == "__main__":
    sys.exit(main())
