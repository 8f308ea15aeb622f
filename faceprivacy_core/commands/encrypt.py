"""`faceprivacy encrypt IN... --out DIR --key NAME`: other faces, and the originals for who has the key."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..keyed.mode_names import RecoveryMode
from .choosing import NO_FACE_SAID, FaceChoice, add_choice_options, chosen_faces, without_face
from .devices import add_device_option
from .dry_run import add_dry_run_option, show_faces
from .each_picture import add_run_options, write_each
from .inputs import make_plan
from .key_choice import add_key_arguments, chosen_key
from .model_options import add_model_options, load_model
from .protecting import REGIONS, add_small_face_options
from .telling import in_number

GROW = 2.0
"""Percent by which the mask is widened, to reach the hairline."""

MODES = tuple(mode.value for mode in RecoveryMode)


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "encrypt",
        help="replace faces so that a key brings them back",
        description="Replaces every face in the given pictures by another one and seals the original. Writes DIR/NAME.png "
        "with the sealed faces inside. A picture in which anything fails is not written.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="pictures or folders of pictures")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add_key_arguments(parser)
    parser.add_argument(
        "--mode", choices=MODES, default=MODES[0],
        help="latent: small, as good as the model's autoencoder; exact: every byte; image: survives without payload data; "
        "signflip: the rule of arXiv 2510.01031, for comparison, not secure (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: %(default)s)")
    parser.add_argument("--sidecar", action="store_true", help="also write DIR/NAME.fprv, which survives a change of the PNG")
    parser.add_argument(
        "--unbound", action="store_true", help="let faces come back from a recompressed picture and its sidecar"
    )
    parser.add_argument(
        "--decoy", action="store_true", help="modes image, signflip: a wrong key shows another face, no error; signs nothing"
    )
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[1], help="what is replaced (default: %(default)s)")
    add_small_face_options(parser)
    add_run_options(parser)
    add_device_option(parser)
    add_dry_run_option(parser)
    add_choice_options(parser)
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when every picture was written.

    Raises:
        InputError: Paths, settings or the device cannot be used; nothing is written.
        KeyNotFoundError: There is no such key.
        ModelFileError: A model file is missing.
    """
    # torch takes seconds to load; the other commands must not wait for it.
    from ..keyed.encrypt import EncryptSettings
    from ..masks import MaskSettings, Region
    from ..small_faces import SmallFaces
    from .batch import check_device

    plan = make_plan(args.inputs, args.out, recursive=args.recursive)
    small = SmallFaces(args.min_size, pixelate=args.blur_small)
    choice = chosen_faces(args)
    if args.dry_run:
        return show_faces(plan, args, choice, small, MaskSettings(Region(args.region), grow=GROW))
    settings = EncryptSettings(
        RecoveryMode(args.mode), steps=args.steps, bind_pixels=not args.unbound, decoy=args.decoy
    )  # fmt: skip
    key = chosen_key(args, confirm=True)
    check_device(args.device)
    tools = _load(args, choice)
    return write_each(
        plan, args, lambda path, target: _encrypt_file(path, target, args, tools, key, settings, choice, small)
    )  # fmt: skip


def _load(args: argparse.Namespace, choice: FaceChoice) -> tuple[Any, Any, Any]:
    """Load the model, the detector, and the check that looks at covers."""
    from ..faces.recognizers import DEFAULT_SURROGATES, load_ensemble
    from ..keyed.checks import CoverCheck
    from ..keyed.models import KeyedModel

    detector = choice.load_detector()
    model = KeyedModel(load_model(args))
    return model, detector, CoverCheck(detector, load_ensemble(DEFAULT_SURROGATES, device=args.device))


def _encrypt_file(
    path: Path, target: Path, args: argparse.Namespace, tools: Any, key: Any, settings: Any, choice: FaceChoice, small: Any
) -> str:
    import numpy as np

    from ..files import NewFile, check_free, write_file, write_together
    from ..keyed.encrypt import encrypt_faces
    from ..keyed.files import SIDECAR_SUFFIX, keyed_png, payloads_in, sidecar_file
    from ..keyed.picture import KeyedPicture
    from ..masks import MaskSettings, Region, draw_masks
    from ..picture_files import png_bytes, read_picture_file

    started = time.perf_counter()
    model, detector, check = tools
    result, sidecar = (target.with_name(target.name + ending) for ending in (".png", SIDECAR_SUFFIX))
    if not args.force:
        check_free([result, sidecar])
    opened = read_picture_file(path)
    if payloads_in(opened.chunks) or path.with_suffix(SIDECAR_SUFFIX).is_file():
        raise InputError(
            "Expected a picture without sealed faces, this one carries some, which would be lost: they belong to its pixels as "
            "they are. Decrypt it first and encrypt all faces at once."
        )
    pixels = opened.pixels
    faces = choice.find(pixels, detector)
    if not faces.items:
        passed = without_face(pixels, args.on_no_face)
        shown = passed if opened.alpha is None else np.dstack([passed, opened.alpha])
        write_file(result, png_bytes(shown, opened.look), private=True, replace=args.force)
        return f"0 faces, nothing sealed, {NO_FACE_SAID[args.on_no_face]}"
    large, _, pixels = small.prepare(pixels, faces)
    blurred = len(faces) - len(large)
    if not large.items:
        raise InputError("Expected a face that is large enough to come back, got none. Use another command for this picture.")
    faces = large
    mask = draw_masks(faces, MaskSettings(Region(args.region), grow=GROW))[:, None]
    encrypted = encrypt_faces(KeyedPicture(pixels, alpha=opened.alpha), faces, mask, key, model, settings, check=check)
    container = encrypted.picture.container()
    files = [NewFile(result, keyed_png(encrypted.picture.stored, container, look=opened.look))]
    if args.sidecar or sidecar.exists():  # with --force: one that stays behind would not belong to the new picture
        files.insert(0, sidecar_file(sidecar, container))
    write_together(files, replace=args.force)
    back = ", ".join("exact" if r.recovered_psnr == float("inf") else f"{r.recovered_psnr:.1f} dB" for r in encrypted.reports)
    seconds = time.perf_counter() - started
    lost = f"{in_number(blurred, 'small face')} pixelated, which no key brings back; " if blurred else ""
    return (
        lost
        + f"{in_number(len(encrypted.reports), 'face')}, {len(container)} bytes sealed, come back at {back}, {seconds:.0f} s"
    )
