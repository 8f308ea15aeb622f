"""`faceprivacy cloak IN... --out DIR`: people see the same person, recognisers do not."""

from __future__ import annotations

import argparse
from typing import Any

from .protecting import add_file_options, protect_files


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "cloak",
        help="change every face so that people still know it and recognisers do not",
        description="Moves every face in the given pictures away from face recognisers; people go on recognising the "
        "person. This protects from machines, not from people, and not from every machine. Writes DIR/NAME.png at the "
        "picture's size and DIR/NAME.json with what was measured. A picture in which a face stays recognisable to the "
        "recognisers it was protected against is not written.",
    )
    add_file_options(parser)
    parser.add_argument("--iterations", type=int, default=20, help="updates of every face (default: %(default)s)")
    parser.add_argument(
        "--fidelity", type=float, default=34.0, help="least likeness of the face to the original, dB (default: %(default)s)"
    )
    parser.add_argument(
        "--accept-unprotected", action="store_true", help="write pictures, too, in which a face is still recognised"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="the same as --dtype bf16: faster where hardware has it, about the same result"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; see `protecting.protect_files`."""
    # torch takes seconds to load; the other commands must not wait for it.
    from dataclasses import replace

    from ..cloak import CloakSettings, cloak_faces
    from ..masks import MaskSettings, Region
    from ..pixels import as_values

    if args.bf16:
        args.dtype = args.dtype or "bf16"
    default = CloakSettings()
    settings = replace(
        default, attack=replace(default.attack, iterations=args.iterations),
        fidelity=args.fidelity, seed=args.seed, mask=MaskSettings(Region(args.region)),
        require_protection=not args.accept_unprotected,
    )  # fmt: skip
    return protect_files(
        args,
        settings.mask,
        lambda images, faces, tools, progress: cloak_faces(
            as_values(images), faces, tools.model, tools.seen, settings, perceptual=tools.perceptual, progress=progress
        ),
    )
