"""What commands that change faces share: options, and the run over files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .choosing import add_choice_options, chosen_faces
from .devices import add_device_option
from .dry_run import add_dry_run_option, show_faces
from .each_picture import add_run_options, write_each
from .inputs import is_clip, make_plan
from .inversion_options import add_inversion_options, chosen_inversion
from .languages import add_language_option, chosen_phrases
from .model_options import add_model_options, load_model
from .resuming import add_workers_option
from .workers import is_worker

if TYPE_CHECKING:
    from ..embeddings.persons import TokenSettings
    from ..masks import MaskSettings
    from .batch import Method, Tools

    ProtectClip = Callable[[Path, Path, Tools], str]
    """Writes a clip, given its path and that of the result without ending; returns what to say of it."""

REGIONS = ("inner face", "face with neck and ears", "whole head")


def add_file_options(parser: Any) -> None:
    """Add the options of every command that changes faces."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="pictures or folders of pictures")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add_small_face_options(parser)
    add_run_options(parser)
    add_workers_option(parser)
    add_device_option(parser)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result (default: 0)")
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[1], help="what is changed")
    add_dry_run_option(parser)
    add_language_option(parser)
    add_choice_options(parser)
    add_model_options(parser)


def add_small_face_options(parser: Any) -> None:
    """Add what becomes of faces that are too small."""
    parser.add_argument(
        "--min-size", type=float, default=0.0, metavar="PX",
        help="faces below this size count as too small, besides those with too few pixels (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--blur-small", action="store_true", help="pixelate faces that are too small; otherwise their picture is refused"
    )


def add_regenerating_options(parser: Any, *, steps: int | None, noise: float | None, strength: float | None) -> None:
    """Add the options of commands that draw faces anew.

    Args:
        parser: Of the command.
        steps, noise, strength: Defaults of the options of these names; None leaves them to the settings.
    """
    add_file_options(parser)
    given = {"steps": steps, "noise": noise, "strength": strength}
    said = {name: "what --look needs" if value is None else value for name, value in given.items()}
    parser.add_argument(
        "--steps", type=int, default=steps, help=f"steps over the whole noise schedule (default: {said['steps']})"
    )
    parser.add_argument("--noise", type=float, default=noise, help=f"how far into noise, 0 to 1 (default: {said['noise']})")
    parser.add_argument(
        "--strength", type=float, default=strength, help=f"energy guidance, 0 is off (default: {said['strength']})"
    )
    parser.add_argument(
        "--learn-steps", type=int, metavar="N",
        help="updates that learn what the model is told of a person, with --model (default: 200; 0 tells it the word face)",
    )  # fmt: skip
    add_inversion_options(parser)


def tokens_of(args: argparse.Namespace) -> TokenSettings:
    """Return how the tokens of a person are found."""
    from ..embeddings.persons import TokenSettings

    return TokenSettings(args.learn_steps)


def protect_files(args: argparse.Namespace, mask: MaskSettings, method: Method, clip: ProtectClip | None = None) -> int:
    """Run a method over the pictures of the command line; 0 when every picture was written.

    Args:
        args: Of the command.
        mask: Region that the method replaces, which --dry-run shows.
        method: What is done to every picture.
        clip: What is done to every clip; without it clips are refused.

    Raises:
        InputError: Paths or the device cannot be used; nothing is written.
        KeyNotFoundError: There is no such key.
        ModelFileError: A model file is missing.
    """
    from ..small_faces import SmallFaces
    from .batch import check_device, load_tools, protect_file

    plan = make_plan(args.inputs, args.out, recursive=args.recursive, clips=clip is not None and not args.dry_run)
    small = SmallFaces(args.min_size, pixelate=args.blur_small)
    if args.workers > 1 and not is_worker():
        check_device(args.device)
        return write_each(plan, args, None)
    choice = chosen_faces(args)
    if args.dry_run:
        return show_faces(plan, args, choice, small, mask)
    saving = chosen_inversion(args) if "save_inversion" in args else None
    check_device(args.device)
    detector = choice.load_detector()
    tools = load_tools(args.device, load_model(args), detector)
    phrases = chosen_phrases(args)

    def write(path: Path, target: Path) -> str:
        if clip is not None and is_clip(path):
            return clip(path, target, tools)
        return protect_file(
            path, target, tools, method, choice, saving, small=small, on_no_face=args.on_no_face, replace=args.force,
            phrases=phrases,
        )  # fmt: skip

    return write_each(plan, args, write)
