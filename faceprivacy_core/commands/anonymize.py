"""`faceprivacy anonymize IN... --out DIR`: files and folders, without a host."""

from __future__ import annotations

import argparse
from typing import Any

from .protecting import add_regenerating_options, protect_files

LOOKS = ("donor", "person")


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "anonymize",
        help="replace every face by one of nobody",
        description="Replaces every face in the given pictures. Writes DIR/NAME.png at the picture's size and "
        "DIR/NAME.json with what was measured. A picture in which anything fails is not written.",
    )
    add_regenerating_options(parser, steps=None, noise=None, strength=None)
    parser.add_argument(
        "--look", choices=LOOKS, default=LOOKS[0], help="whose look the new face takes: a generated person's, or the person's "
        "own pushed away as published, with 50 steps, noise 0.6 and strength 1 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--candidates", type=int, default=3, help="faces drawn, the best is kept (default: %(default)s)")
    parser.add_argument("--mix-traits", action="store_true", help="do not follow apparent sex and age")
    parser.set_defaults(run=run, region=None)


def run(args: argparse.Namespace) -> int:
    """Run the command; see `protecting.protect_files`."""
    # torch takes seconds to load; the other commands must not wait for it.
    from ..anonymize import AnonymizeSettings, anonymize_faces
    from ..donors import DonorSettings
    from ..masks import MaskSettings, Region
    from ..regenerate import FACES_AT_A_TIME

    given = {name: getattr(args, name) for name in ("steps", "noise", "strength") if getattr(args, name) is not None}
    if args.region is not None:
        given["mask"] = MaskSettings(Region(args.region))
    make = AnonymizeSettings if args.look == LOOKS[0] else AnonymizeSettings.published
    donors = DonorSettings(follow_traits=not args.mix_traits)
    settings = make(
        seed=args.seed, candidates=args.candidates, donors=donors, micro_batch=FACES_AT_A_TIME, **given
    )  # fmt: skip
    return protect_files(
        args,
        settings.mask,
        lambda images, faces, tools, progress: anonymize_faces(
            images, faces, tools.model, tools.seen, settings, detector=tools.detector, progress=progress
        ),
    )
