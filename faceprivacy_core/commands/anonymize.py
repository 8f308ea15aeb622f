"""`faceprivacy anonymize IN... --out DIR`: files and folders, without a host."""

from __future__ import annotations

import argparse
from typing import Any

from .protecting import add_regenerating_options, protect_files


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "anonymize",
        help="replace every face by one of nobody",
        description="Replaces every face in the given pictures. Writes DIR/NAME.png at the picture's size and "
        "DIR/NAME.json with what was measured. A picture in which anything fails is not written.",
    )
    add_regenerating_options(parser, noise=0.6, strength=1.0)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; see `protecting.protect_files`."""
    # torch takes seconds to load; the other commands must not wait for it.
    from ..anonymize import AnonymizeSettings, anonymize_faces
    from ..masks import MaskSettings, Region
    from ..regenerate import FACES_AT_A_TIME

    settings = AnonymizeSettings(
        steps=args.steps, noise=args.noise, strength=args.strength, seed=args.seed,
        micro_batch=FACES_AT_A_TIME,
        mask=MaskSettings(Region(args.region)),
    )  # fmt: skip
    return protect_files(
        args,
        lambda images, faces, tools, progress: anonymize_faces(
            images, faces, tools.model, tools.seen, settings, progress=progress
        ),
    )
