"""`faceprivacy anonymize IN... --out DIR`: pictures, folders of them, and clips, without a host."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clips import METHODS, add_clip_options, clip_request, protect_clip
from .inputs import is_clip
from .languages import chosen_phrases
from .model_options import LOOKS, add_look_option, chosen_look
from .protecting import add_regenerating_options, protect_files, tokens_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..clips.protect import ClipProtection
    from ..protocols import Progress
    from ..types import Faces
    from .batch import Protected, Tools


SEXES = ("like the person", "a woman", "a man")
AGES = ("like the person", "below fifty", "fifty or more")
"""The choices of `donors.Sex` and `donors.Age`, which load torch."""


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "anonymize",
        aliases=["anonymise"],
        help="replace every face by one of nobody, in pictures and clips",
        description="Replaces every face in the given pictures. Writes DIR/NAME.png at the picture's size and "
        "DIR/NAME.json with what was measured. A picture in which anything fails is not written. Of a clip it writes "
        "DIR/NAME.mp4, a report and a contact sheet; one person has one new face through all of it.",
    )
    add_regenerating_options(parser, steps=None, noise=None, strength=None)
    add_look_option(
        parser,
        "whose look the new face takes: a generated person's (donor), or the person's own pushed away as published, with 50 "
        "steps, noise 0.6 and strength 1 (default: donor; person with --model)",
    )
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="what stands in place of a face (default: %(default)s)"
    )
    parser.add_argument("--candidates", type=int, default=3, help="faces drawn, the best is kept (default: %(default)s)")
    parser.add_argument("--mix-traits", action="store_true", help="do not follow apparent sex and age")
    parser.add_argument("--sex", choices=SEXES, default=SEXES[0], help="apparent sex of the new faces (default: %(default)s)")
    parser.add_argument("--age", choices=AGES, default=AGES[0], help="apparent age of the new faces (default: %(default)s)")
    add_clip_options(parser)
    parser.set_defaults(run=run, region=None)


def run(args: argparse.Namespace) -> int:
    """Run the command; see `protecting.protect_files`."""
    # torch takes seconds to load; the other commands must not wait for it.
    from ..anonymize import AnonymizeSettings, anonymize_faces
    from ..donors import Age, DonorSettings, Sex
    from ..masks import MaskSettings, Region
    from ..protect import DrawingTools, Fallback, Method, ProtectSettings, protect_faces
    from ..regenerate import guided_at_a_time

    given = {name: getattr(args, name) for name in ("steps", "noise", "strength") if getattr(args, name) is not None}
    if args.region is not None:
        given["mask"] = MaskSettings(Region(args.region))
    make = AnonymizeSettings if chosen_look(args) == LOOKS[0] else AnonymizeSettings.published
    donors = DonorSettings(follow_traits=not args.mix_traits, sex=Sex(args.sex), age=Age(args.age))
    settings = make(
        seed=args.seed, candidates=args.candidates, donors=donors, micro_batch=guided_at_a_time(args.device),
        tokens=tokens_of(args), **given,
    )  # fmt: skip
    way = ProtectSettings(Method(args.method), Fallback.ERROR, drawing=settings)

    def protect(images: Tensor, faces: Faces, tools: Tools, progress: Progress) -> Protected:
        if way.method is not Method.NEW_FACE:
            return protect_faces(images, faces, way, lambda: DrawingTools(tools.model, tools.seen, tools.detector))
        return anonymize_faces(images, faces, tools.model, tools.seen, settings, detector=tools.detector, progress=progress)

    # A photo that cannot be read is a mistake of the whole command, so it is read before anything is written.
    request = clip_request(args, way) if any(is_clip(path) for path in args.inputs) else None
    return protect_files(args, settings.mask, protect, None if request is None else partial(_protect_clip, args, request))


def _protect_clip(args: argparse.Namespace, request: ClipProtection, path: Path, target: Path, tools: Tools) -> str:
    return protect_clip(path, target, tools, request, replace=args.force, phrases=chosen_phrases(args))
