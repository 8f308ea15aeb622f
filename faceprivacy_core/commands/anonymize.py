"""`faceprivacy anonymize IN... --out DIR`: files and folders, without a host."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import FacePrivacyError
from .console import say

REGIONS = ("inner face", "face with neck and ears", "whole head")


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "anonymize",
        help="replace every face by one of nobody",
        description="Replaces every face in the given pictures. Writes DIR/NAME.png at the picture's size and "
        "DIR/NAME.json with what was measured. A picture in which anything fails is not written.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="pictures or folders of pictures")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result (default: 0)")
    parser.add_argument("--steps", type=int, default=50, help="steps over the whole noise schedule (default: 50)")
    parser.add_argument("--noise", type=float, default=0.6, help="how far into noise, 0 to 1 (default: %(default)s)")
    parser.add_argument("--strength", type=float, default=1.0, help="energy guidance, 0 is off (default: %(default)s)")
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[1], help="what is replaced")
    parser.add_argument("--largest", action="store_true", help="only the largest face of each picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when every picture was written.

    Raises:
        InputError: Paths, settings or the device cannot be used; nothing is written.
        ModelFileError: A model file is missing.
    """
    # torch takes seconds to load; the other commands must not wait for it.
    from ..anonymize import AnonymizeSettings
    from ..faces.select import Selection, Which
    from ..masks import MaskSettings, Region
    from .batch import anonymize_file, check_outputs, list_pictures, load_tools

    pictures = list_pictures(args.inputs)
    check_outputs(pictures, args.out)
    settings = AnonymizeSettings(
        steps=args.steps, noise=args.noise, strength=args.strength, seed=args.seed,
        mask=MaskSettings(Region(args.region)),
    )  # fmt: skip
    selection = Selection(Which.LARGEST if args.largest else Which.ALL)
    tools = load_tools(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in pictures:
        try:
            anonymize_file(path, args.out, tools, settings, selection)
        except FacePrivacyError as error:
            failed += 1
            say(f"{path}: not written. {error}", sys.stderr)
    say(f"{len(pictures) - failed} of {len(pictures)} pictures written to {args.out}.")
    return 1 if failed else 0
