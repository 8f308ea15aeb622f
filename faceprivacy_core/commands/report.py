"""`faceprivacy report`: compare a protected picture with its original."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..phrases.catalogue import ENGLISH, Phrases
from .console import say
from .languages import add_language_option, chosen_phrases

if TYPE_CHECKING:
    from ..metrics.report import FaceResult


def add_parser(commands: Any) -> None:
    """Add `report` to the command line."""
    parser = commands.add_parser(
        "report",
        help="compare a protected picture with its original",
        description="Measures whether recognisers still find the same person. Writes DIR/NAME.report.json and "
        "DIR/NAME.report.png, NAME being that of the protected picture.",
    )
    parser.add_argument("original", type=Path, metavar="ORIGINAL", help="the picture before")
    parser.add_argument("protected", type=Path, metavar="PROTECTED", help="the picture after, of the same size")
    parser.add_argument("--mask", type=Path, help="picture that is black where nothing was meant to change")
    parser.add_argument(
        "--other", type=Path, metavar="FILE",
        help="another photo of the person, to compare both pictures with; its largest face counts",
    )  # fmt: skip
    parser.add_argument(
        "--seen",
        metavar="NAMES",
        help="recognisers the method used, separated by commas; '' for none (default: the methods' default ones)",
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder for the report (default: here)")
    parser.add_argument("--force", action="store_true", help="replace a report that is there already")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="further models folder")
    add_language_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the report as JSON and as a picture, and say what it found; 0 when both are written.

    Raises:
        InputError: A file is not a picture, sizes differ, a name is unknown, or the folder is not writable.
        NoFaceError: The original or the other photo has no face.
        ModelFileError: A model file is missing.
    """
    # torch and OpenCV take seconds to load; `faceprivacy models` must not wait for them.
    from ..faces.detect import load_detector
    from ..faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, load_ensemble
    from ..files import NewFile, check_free, make_folder, write_together
    from ..metrics.draw import draw_report
    from ..metrics.perceptual import load_perceptual
    from ..metrics.report import compute_report
    from ..picture_files import png_bytes
    from .pictures import read_mask, read_picture

    phrases = chosen_phrases(options)
    name = options.protected.stem
    text, picture = (options.out / f"{name}.report.{kind}" for kind in ("json", "png"))
    if not options.force:
        check_free([text, picture])
    original, protected = read_picture(options.original), read_picture(options.protected)
    mask = None if options.mask is None else read_mask(options.mask)
    other = None if options.other is None else read_picture(options.other)
    seen = DEFAULT_SURROGATES if options.seen is None else split_names(options.seen)
    names = tuple(dict.fromkeys([*seen, *DEFAULT_SURROGATES, *DEFAULT_HELD_OUT]))
    recognizers = load_ensemble(names, options.models)
    report = compute_report(
        original, protected, load_detector(options.models), recognizers,
        seen=seen, mask=mask, perceptual=load_perceptual(options.models), other=other,
    )  # fmt: skip
    drawn = png_bytes(draw_report(report, original, protected, phrases=phrases))
    plain = json.dumps(report.to_json_dict(), indent=2, allow_nan=False) + "\n"
    make_folder(options.out)
    write_together([NewFile(text, plain.encode("ascii")), NewFile(picture, drawn)], replace=options.force)
    for face in report.faces:
        say(describe_face(face, phrases))
        if other is not None:
            say(describe_other(face, phrases))
    say(phrases("Written: {files}", files=f"{text}, {picture}"))
    return 0


def split_names(text: str) -> tuple[str, ...]:
    """Split names at commas; spaces and repetitions do not count."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def describe_face(face: FaceResult, phrases: Phrases = ENGLISH) -> str:
    """Say in one line who recognises a face, the lenient threshold included."""
    possible = [item for item in face.recognizers if item.is_verified(0.01)]
    by = [item.name if item.is_verified(0.001) else phrases("{name} (possibly)", name=item.name) for item in possible]
    text = "Face {index}: recognised by {names}" if by else "Face {index}: not recognised by any of {count}"
    verdict = phrases(text, index=face.index, names=", ".join(by), count=len(face.recognizers))
    return verdict if face.detected_after else verdict + phrases("; no face is found there any more")


def describe_other(face: FaceResult, phrases: Phrases = ENGLISH) -> str:
    """Say in one line how many recognisers know a face from the other photo, before and after, at both thresholds."""
    beside = [(item.other, item.thresholds) for item in face.recognizers if item.other is not None]
    counts = {
        f"{side}{'_perhaps' if fmr == 0.01 else ''}": sum(
            getattr(other, side) >= thresholds[fmr] for other, thresholds in beside
        )
        for side in ("before", "after")
        for fmr in (0.001, 0.01)
    }
    text = (
        "Face {index}, beside the other photo: of {count} recognisers {before} (possibly {before_perhaps}) knew the "
        "person before, {after} (possibly {after_perhaps}) after"
    )
    return phrases(text, index=face.index, count=len(beside), **counts)
