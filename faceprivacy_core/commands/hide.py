"""`faceprivacy hide IN... --out DIR`: people see somebody else, recognisers the same person."""

from __future__ import annotations

import argparse
from typing import Any

from .protecting import add_regenerating_options, protect_files


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "hide",
        help="give every face other looks that recognisers still know",
        description="Gives every face in the given pictures other looks, while face recognisers go on recognising the "
        "person. This protects from people, not from machines. Writes DIR/NAME.png at the picture's size and DIR/NAME.json "
        "with what was measured. A picture in which anything fails is not written.",
    )
    add_regenerating_options(parser, steps=50, noise=0.95, strength=0.5)
    parser.add_argument(
        "--look-different", type=float, default=0.3, help="push away from the looks; more adds texture (default: %(default)s)"
    )
    parser.add_argument(
        "--refine", type=int, default=20, help="updates afterwards, so that recognisers see the person (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; see `protecting.protect_files`."""
    # torch takes seconds to load; the other commands must not wait for it.
    from ..hide import HideSettings, hide_faces
    from ..masks import MaskSettings, Region
    from ..regenerate import FACES_AT_A_TIME

    settings = HideSettings(
        steps=args.steps, noise=args.noise, strength=args.strength, seed=args.seed,
        micro_batch=FACES_AT_A_TIME,
        look_different=args.look_different, refine=args.refine, mask=MaskSettings(Region(args.region)),
    )  # fmt: skip
    return protect_files(
        args,
        settings.mask,
        lambda images, faces, tools, progress: hide_faces(
            images, faces, tools.model, tools.seen, settings, perceptual=lambda: tools.perceptual, progress=progress
        ),
    )
