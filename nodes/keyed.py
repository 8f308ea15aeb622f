"""Reversible faces: another face for everybody, the original for whoever has the key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from comfy_api.latest import io
from torch import Tensor

from ..faceprivacy_core.errors import FormatError, InputError
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.select import parse_numbers
from ..faceprivacy_core.keyed.checks import CoverCheck
from ..faceprivacy_core.keyed.decrypt import decrypt_faces
from ..faceprivacy_core.keyed.encrypt import DEFAULT_CROP_SIZE, EncryptSettings, FaceReport, encrypt_faces
from ..faceprivacy_core.keyed.keys import PrivacyKey, check_name, create_key, has_key, load_key
from ..faceprivacy_core.keyed.mode_names import RecoveryMode
from ..faceprivacy_core.keyed.picture import KeyedPicture, Picture
from ..faceprivacy_core.protocols import FaceRecognizer, Progress
from ..faceprivacy_core.types import Faces
from . import _convert, _host
from ._host_keyed import HostKeyedModel, exact_computation
from ._types import FacesType, KeyedType, KeyType, RecognizersType

CATEGORY = "face privacy/keyed"

logger = logging.getLogger(__name__)
MODES = [mode.value for mode in RecoveryMode]


class LoadPrivacyKey(io.ComfyNode):
    """Get a key by its name.

    Core: `faceprivacy_core.keyed.keys.load_key`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_PrivacyKey",
            display_name="Face Privacy Key",
            category=CATEGORY,
            description="Gets a key by its name: from the environment variable FACEPRIVACY_KEY_NAME, else from the key file "
            "that 'faceprivacy key new NAME' made. The key itself never enters the workflow.",
            search_aliases=["password", "passphrase", "secret", "encrypt", "decrypt"],
            inputs=[
                io.String.Input(
                    "name", default="default",
                    tooltip="NAME of a key. Never a key or a passphrase: what stands here is saved with every workflow. "
                    "'faceprivacy key new NAME' makes a key on this machine.",
                ),
                io.Boolean.Input(
                    "create", default=False, optional=True,
                    tooltip="When there is no key of this name: make a new random one, as 'faceprivacy key new NAME' does. "
                    "Leave it off for decrypting. Keep a copy of the key file: without it no face comes back.",
                ),
                io.Boolean.Input(
                    "server_may_decrypt", default=False, optional=True,
                    tooltip="Of a key that 'create' makes: whether this server may decrypt with it. Whoever reaches the "
                    "server can then bring the faces back. A key that is there already keeps what its owner said: "
                    "'faceprivacy key allow'.",
                ),
            ],
            outputs=[KeyType.Output("key", tooltip="For Keyed Encrypt and Keyed Decrypt.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, name: str | None = None, create: bool | None = None, server_may_decrypt: bool | None = None
    ) -> bool | str:
        # What is no name may be a passphrase: refused here, it stays out of history and log.
        return True if name is None else problem_of(check_name, name) or True

    @classmethod
    def fingerprint_inputs(
        cls, name: str | None = None, create: bool | None = None, server_may_decrypt: bool | None = None
    ) -> float:
        # A new NaN each time: the file behind a name may have changed, and every run needs fresh nonces.
        return float("nan")

    @classmethod
    def execute(cls, name: str, create: bool = False, server_may_decrypt: bool = False) -> io.NodeOutput:
        if create and not has_key(name):
            path = create_key(name, decrypts_in_server=server_may_decrypt)
            logger.warning("A new key was made: %s. Keep a copy of this file in a safe place.", path)
        return io.NodeOutput(load_key(name))


class KeyedEncrypt(io.ComfyNode):
    """Put other faces over the chosen ones, such that a key brings the originals back.

    Core: `faceprivacy_core.keyed.encrypt.encrypt_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_KeyedEncrypt",
            display_name="Keyed Encrypt (Face Privacy)",
            category=CATEGORY,
            description="Draws another face over every chosen one and seals the original with a key, face by face. Only "
            "that key brings it back. Save the result with Save Keyed Image; other savers drop what was sealed.",
            search_aliases=["reversible", "encrypt face", "pseudonymise", "pseudonymize"],
            inputs=[
                io.Image.Input("image", tooltip="The pictures that went into Face Mask."),
                FacesType.Input("faces", tooltip="The faces to encrypt, from Face Mask."),
                io.Mask.Input("mask", tooltip="What must be hidden, from Face Mask."),
                KeyType.Input("key", tooltip="From Privacy Key."),
                io.Combo.Input(
                    "mode", options=MODES, default=MODES[0],
                    tooltip="How the original comes back. latent: as good as the VAE; seals 16 KB a face with the built-in "
                    "model, 32 KB with SD1.5. exact: every bit; seals the face's pixels, opens without a model. image: from "
                    "the visible face itself, seals two numbers a channel, less exact. signflip: the published rule, for "
                    "comparison only; it is NOT secure.",
                ),
                io.Int.Input("steps", default=20, min=2, max=200, tooltip="Sampling steps of the new faces."),
                io.Int.Input(
                    "size", default=DEFAULT_CROP_SIZE, min=64, max=2048, step=8,
                    tooltip="Side of the face crops in pixels: connect the built-in model's size; 512 for SD1.5, 1024 for "
                    "SDXL.",
                ),
                io.Int.Input(
                    "iterations", default=5, min=0, max=30, advanced=True,
                    tooltip="Fixed-point iterations in each step of mode image. More comes back more exactly, and slower.",
                ),
                io.Int.Input(
                    "attempts", default=8, min=1, max=64, advanced=True,
                    tooltip="How many faces may be drawn for one that shows no face or resembles the original.",
                ),
                io.Boolean.Input(
                    "bind_pixels", default=True, advanced=True,
                    tooltip="Refuse to decrypt when any pixel was changed. Off, a face opens after recompression too, "
                    "provided that the payload was kept in a sidecar.",
                ),
                io.Boolean.Input(
                    "decoy", default=False, advanced=True,
                    tooltip="Modes image and signflip: a wrong key gives yet another face instead of an error. Nothing is "
                    "signed then, and who tries many keys can tell the right one.",
                ),
                io.Boolean.Input(
                    "verify", default=True, advanced=True,
                    tooltip="Decrypt at once, and stop if the original does not come back.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="Draws the faces: the built-in model, SD1.x, SD2.x, SDXL, SD3 or Flux."
                ),
                io.Vae.Input("vae", optional=True, tooltip="The VAE that belongs to the model."),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="Describes the new faces: 'empty' of Load Built-in Face Model, or an encoded prompt such as "
                    "'photo of a face'.",
                ),
                RecognizersType.Input(
                    "recognizers", optional=True,
                    tooltip="A new face that one of them takes for the original is drawn again.",
                ),
                io.Image.Input(
                    "cover", optional=True,
                    tooltip="Modes latent and exact: the same pictures with other faces, made by any other graph. Used instead "
                    "of drawing. Connect recognizers too: without them only an unchanged face is refused.",
                ),
                KeyedType.Input(
                    "keyed", optional=True,
                    tooltip="From an earlier Keyed Encrypt, to give further faces another key. Connect that node's image too.",
                ),
            ],
            outputs=[
                KeyedType.Output("keyed", tooltip="Pictures and sealed faces, for Save Keyed Image or another Keyed Encrypt."),
                io.Image.Output("image", tooltip="The pictures as everybody may see them."),
                io.String.Output("report", tooltip="What was done to each face."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, faces: Faces, mask: io.Mask.Type, key: PrivacyKey, mode: str, steps: int, size: int,
        iterations: int, attempts: int, bind_pixels: bool, decoy: bool, verify: bool,
        model: io.Model.Type | None = None, vae: io.Vae.Type | None = None, positive: list | None = None,
        recognizers: tuple[FaceRecognizer, ...] = (), cover: io.Image.Type | None = None,
        keyed: tuple[KeyedPicture, ...] | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        settings = EncryptSettings(
            RecoveryMode(mode), steps, iterations, attempts, bind_pixels, decoy, crop_size=size, verify=verify
        )
        with exact_computation():
            pictures = to_pictures(image)
            started = _continue(pictures, keyed)
            covers = [None] * len(pictures) if cover is None else _same_count("cover", to_pictures(cover), len(pictures))
            masks = _convert.mask_to_core(mask, len(pictures))
            _check_faces(faces, pictures)
            network = host_model(model, vae, positive, size, reversible=settings.mode.in_noise)
            check = None
            if len(faces) and (cover is None or recognizers):
                check = CoverCheck(load_detector(_host.model_dirs()), recognizers)
            done, lines = [], []
            for index, start in enumerate(started):
                chosen = faces_of(faces, index)
                if not chosen.items:  # only when Face Mask was told to let pictures without a face pass
                    done.append(start)
                    lines.append(f"picture {index}: no face was chosen, nothing is encrypted")
                    continue
                result = encrypt_faces(
                    start, chosen, masks[index : index + 1], key, network, settings, cover=covers[index], check=check,
                    progress=part_of_progress(index, len(pictures)),
                )  # fmt: skip
                done.append(result.picture)
                lines += [f"picture {index}, {describe(report, key)}" for report in result.reports]
            return io.NodeOutput(tuple(done), to_image([picture.pixels for picture in done]), "\n".join(lines))


class KeyedDecrypt(io.ComfyNode):
    """Bring the originals back.

    Core: `faceprivacy_core.keyed.decrypt.decrypt_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_KeyedDecrypt",
            display_name="Keyed Decrypt (Face Privacy)",
            category=CATEGORY,
            description="Brings the original faces back that a key opens. The result shows real people: what you preview or "
            "save of it is no longer protected.",
            search_aliases=["reversible", "decrypt face", "recover face", "restore original"],
            inputs=[
                KeyedType.Input("keyed", tooltip="From Load Keyed Image or Keyed Encrypt."),
                KeyType.Input(
                    "key", tooltip="From Privacy Key: the key of the faces to open, of which its owner said that a server may "
                    "decrypt with it.",
                ),
                io.String.Input(
                    "numbers", default="",
                    tooltip="Numbers of the faces to open, separated by commas, from 0; each must open. Empty: all that the "
                    "key opens.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="The same as at encryption; not needed for faces in mode exact."
                ),
                io.Vae.Input("vae", optional=True, tooltip="The same as at encryption; not needed for faces in mode exact."),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="The same as at encryption; needed for modes image and signflip only."
                ),
                io.Image.Input(
                    "onto", optional=True,
                    tooltip="Pictures to put the faces into: the result of another Keyed Decrypt, for two keys in a row.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The pictures with the originals. Handle with care."),
                io.String.Output("report", tooltip="Which faces were opened."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, keyed: tuple[KeyedPicture, ...], key: PrivacyKey, numbers: str, model: io.Model.Type | None = None,
        vae: io.Vae.Type | None = None, positive: list | None = None, onto: io.Image.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        key.check_server_use()
        if not any(picture.faces for picture in keyed):
            raise FormatError
        which = parse_numbers(numbers) if numbers.strip() else None
        in_noise = any(header.mode.in_noise for picture in keyed for header in picture.headers)
        with exact_computation():
            targets = [None] * len(keyed) if onto is None else _same_count("onto", to_pictures(onto), len(keyed))
            # Each face's header says the size of its crop.
            network = host_model(model, vae, positive, DEFAULT_CROP_SIZE, reversible=in_noise)
            opened, lines = [], []
            for index, (picture, target) in enumerate(zip(keyed, targets, strict=True)):
                if not picture.faces:
                    opened.append(picture.pixels if target is None else target)
                    lines.append(f"picture {index}: no keyed face in it")
                    continue
                progress = part_of_progress(index, len(keyed))
                result = decrypt_faces(picture, key, network, which=which, onto=target, progress=progress)
                opened.append(result.pixels)
                lines.append(f"picture {index}: {_named(key)} {result.describe(len(picture.faces))}")
            return io.NodeOutput(to_image(opened), "\n".join(lines))


def to_pictures(image: Tensor) -> list[Picture]:
    """Turn a host IMAGE into (H, W, 3) uint8 pictures."""
    return [_convert.image_to_uint8(one) for one in _convert.image_to_core(image)]


def to_image(pictures: Sequence[Picture]) -> Tensor:
    """Turn (H, W, 3) uint8 pictures of one size into a host IMAGE."""
    return _convert.core_to_image(_convert.stack_uint8(list(pictures)))


def faces_of(faces: Faces, index: int) -> Faces:
    """Return the faces of one image as those of a batch of one."""
    items = tuple(replace(face, image_index=0) for face in faces.of_image(index))
    return Faces(items, 1, faces.height, faces.width)


def host_model(
    model: io.Model.Type | None, vae: io.Vae.Type | None, positive: list | None, size: int, *, reversible: bool
) -> HostKeyedModel | None:
    """Join what is connected to the core's model; None when nothing is."""
    if model is None and vae is None:
        return None
    if model is None or vae is None:
        raise InputError("Expected MODEL and VAE together, got only one of them. Connect both, from the same checkpoint.")
    return HostKeyedModel(model, vae, positive, size, reversible=reversible)


def part_of_progress(index: int, count: int) -> Progress:
    """Return the progress of one picture of several, drawn on one bar."""
    bar: list[_host.HostProgress] = []

    def report(step: int, total: int, preview: Tensor | None = None) -> None:
        if not bar:
            bar.append(_host.HostProgress(count * total))
        bar[0](index * total + step, count * total, preview)

    return report


def describe(report: FaceReport, key: PrivacyKey) -> str:
    """Say in one line what was done to a face."""
    got = report.recovered_psnr
    back = "not verified" if got is None else "comes back bit by bit" if got == float("inf") else f"comes back at {got:.1f} dB"
    if report.bound_psnr is not None:
        back += f" (the VAE alone: {report.bound_psnr:.1f} dB)"
    return (
        f"face {report.number}: mode {report.mode.value}, {_named(key)}, {back}, "
        f"sealed {report.payload_bytes} bytes, covers tried: {report.attempts}"
    )


def problem_of(check: Callable[[str], object], value: str) -> str:
    """Return the message of the error that a check raises, or nothing."""
    try:
        check(value)
    except InputError as error:
        return str(error)
    return ""


def _named(key: PrivacyKey) -> str:
    return f"key {key.name!r} (id {key.public_id})"


def _continue(pictures: list[Picture], keyed: tuple[KeyedPicture, ...] | None) -> list[KeyedPicture]:
    """Return what to encrypt into: the pictures, or those of an earlier node with its faces."""
    if keyed is None:
        return [KeyedPicture(picture) for picture in pictures]
    same = len(keyed) == len(pictures) and all(
        np.array_equal(one.pixels, picture) for one, picture in zip(keyed, pictures, strict=True)
    )
    if not same:
        raise InputError(
            "Expected 'image' and 'keyed' from the same Keyed Encrypt, got different pictures. Connect both outputs of that "
            "node, with nothing in between."
        )
    return list(keyed)


def _check_faces(faces: Faces, pictures: list[Picture]) -> None:
    expected = (faces.num_images, faces.height, faces.width)
    came = (len(pictures), *pictures[0].shape[:2])
    if expected != came:
        raise InputError(
            f"Expected the pictures the faces were found in (count, height, width = {expected}), got {came}. Connect the "
            "same image to Face Mask and to this node."
        )


def _same_count(name: str, pictures: list[Picture], count: int) -> list[Picture]:
    if len(pictures) != count:
        raise InputError(f"Expected one picture in '{name}' for each of the {count}, got {len(pictures)}.")
    return pictures
