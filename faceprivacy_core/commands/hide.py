"""`faceprivacy hide IN... --out DIR`: people see somebody else, recognisers the same person."""

from __future__ import annotations

import argparse
from typing import Any

from .model_options import LOOKS, add_look_option, chosen_look
from .protecting import add_regenerating_options, protect_files, tokens_of


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "hide",
        help="give every face other looks that recognisers still know",
        description="Gives every face in the given pictures other looks, while face recognisers go on recognising the "
        "person. This protects from people, not from machines. Writes DIR/NAME.png at the picture's size and DIR/NAME.json "
        "with what was measured. A picture in which anything fails is not written.",
    )
    add_regenerating_options(parser, steps=50, noise=None, strength=None)
    add_look_option(
        parser,
        "whose look is drawn first: a generated person's (donor), or the person's own while the identity is held, as "
        "published (default: donor; person with --model)",
    )
    parser.add_argument("--candidates", type=int, default=3, help="with donors: faces drawn, of which the best is kept")
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
    from ..pixels import as_values
    from ..regenerate import guided_at_a_time

    given = {name: getattr(args, name) for name in ("noise", "strength") if getattr(args, name) is not None}
    make = HideSettings if chosen_look(args) == LOOKS[0] else HideSettings.published
    settings = make(
        steps=args.steps, seed=args.seed, candidates=args.candidates, micro_batch=guided_at_a_time(args.device),
        look_different=args.look_different, refine=args.refine, mask=MaskSettings(Region(args.region)),
        tokens=tokens_of(args), **given,
    )  # fmt: skip
    return protect_files(
        args,
        settings.mask,
        lambda images, faces, tools, progress: hide_faces(
            as_values(images),
            faces,
            tools.model,
            tools.seen,
            settings,
            detector=tools.detector,
            perceptual=lambda: tools.perceptual,
            progress=progress,
        ),
    )
