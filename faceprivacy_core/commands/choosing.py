"""Which faces a command changes, and what becomes of a picture without one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NoFaceError

if TYPE_CHECKING:
    from ..faces.people import People
    from ..faces.select import Selection
    from ..protocols import FaceDetector, FaceRecognizer
    from ..types import Faces, Picture

NO_FACE = ("error", "pass", "blur")
NO_FACE_SAID = {"pass": "written unchanged", "blur": "all of it blurred"}
CONFIDENCE = 0.7


def add_choice_options(parser: Any) -> None:
    """Add which faces are meant."""
    group = parser.add_argument_group("which faces", "all of every picture, unless one of these is given")
    rule = group.add_mutually_exclusive_group()
    rule.add_argument("--largest", action="store_true", help="only the largest face of each picture")
    rule.add_argument(
        "--index", nargs="+", type=int, metavar="N",
        help="the faces of these numbers, from 0, left to right, as --dry-run shows them",
    )  # fmt: skip
    rule.add_argument(
        "--only", "--only-people", nargs="+", type=Path, dest="only_people", metavar="PHOTO",
        help="only the people in these photos, or in files of `faceprivacy person`; in doubt a face is taken",
    )  # fmt: skip
    rule.add_argument(
        "--except", "--except-people", nargs="+", type=Path, dest="except_people", metavar="PHOTO",
        help="all but the people in these photos, or in files of `faceprivacy person`; in doubt a face is taken",
    )  # fmt: skip
    group.add_argument(
        "--confidence", type=float, default=CONFIDENCE, metavar="X",
        help="0 to 1: detections below it are dropped. Lower finds more faces and more mistakes (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--on-no-face", choices=NO_FACE, default=NO_FACE[0],
        help="picture without a chosen face: do not write it, write it unchanged, or blur all of it (default: %(default)s). "
        "pass lets a face through that was not found",
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FaceChoice:
    """Which faces of a picture are meant.

    Attributes:
        selection: The rule.
        confidence: Of the detector.
        recognizers: Who compare; none for the other rules.
        people: Whom a reference rule means, in photos or saved.
    """

    selection: Selection
    confidence: float
    recognizers: tuple[FaceRecognizer, ...] = ()
    people: tuple[People, ...] = ()

    def load_detector(self) -> FaceDetector:
        """Load the detector with this confidence.

        Raises:
            InputError: The confidence is out of range.
            ModelFileError: The file is missing.
        """
        from ..faces.detect import load_detector

        return load_detector(min_confidence=self.confidence)

    def find(self, picture: Picture, detector: FaceDetector) -> Faces:
        """Find and choose the faces of one picture; there may be none."""
        from ..faces.select import detect_faces

        return detect_faces([picture], detector, self.selection, recognizers=self.recognizers, people=self.people)


def chosen_faces(args: argparse.Namespace) -> FaceChoice:
    """Read which faces are meant.

    Raises:
        InputError: A number is below 0, or a photo or a saved person cannot be read.
        NoFaceError: A photo holds no face.
        ModelFileError: A model file is missing.
    """
    from ..faces.detect import load_detector
    from ..faces.people import learn_people
    from ..faces.recognizers import DEFAULT_SURROGATES, load_ensemble
    from ..faces.select import Selection, Which

    given = args.only_people or args.except_people
    if given:
        which = Which.ONLY_REFERENCE if args.only_people else Which.EXCEPT_REFERENCE
        pictures, people = read_references(given)
        recognizers = load_ensemble(DEFAULT_SURROGATES, device=args.device)
        if pictures:
            detector = load_detector(min_confidence=args.confidence)
            people += (learn_people(pictures, detector, recognizers, photos_among(given)),)
        return FaceChoice(Selection(which), args.confidence, recognizers, people)
    if args.index:
        return FaceChoice(Selection(Which.BY_NUMBER, numbers=tuple(args.index)), args.confidence)
    return FaceChoice(Selection(Which.LARGEST if args.largest else Which.ALL), args.confidence)


def read_references(paths: Sequence[Path]) -> tuple[tuple[Picture, ...], tuple[People, ...]]:
    """Read whom a reference rule means: photos, and files of saved people.

    Raises:
        InputError: One cannot be read.
    """
    from ..faces.people_files import read_people
    from .pictures import read_picture

    photos = photos_among(paths)
    return tuple(map(read_picture, photos)), tuple(read_people(path) for path in paths if path not in photos)


def photos_among(paths: Sequence[Path]) -> list[Path]:
    """Return which of these are no files of saved people."""
    from ..faces.people_files import SUFFIX

    return [path for path in paths if path.suffix.lower() != SUFFIX]


def without_face(picture: Picture, policy: str) -> Picture:
    """Return what stands for a picture without a chosen face.

    Args:
        picture: (H, W, 3) uint8.
        policy: One of `NO_FACE`.

    Raises:
        NoFaceError: Such a picture is not to be written.
    """
    from ..no_face import NoFacePolicy, blur_whole

    if policy == NoFacePolicy.ERROR:
        raise NoFaceError(
            "Expected at least one face that is meant, found none. If there is one, it may be too small or turned away: lower "
            "--confidence. To write such pictures all the same, say --on-no-face blur or pass."
        )
    return blur_whole(picture) if policy == NoFacePolicy.BLUR else picture


def refuse_for_clips(args: argparse.Namespace) -> None:
    """Make sure that the people of a clip are not chosen by what a single frame shows.

    Raises:
        InputError: They are.
    """
    for option, value in (("--largest", args.largest), ("--index", args.index)):
        if value:
            raise InputError(
                f"Expected everybody, or people by --only or --except, for a clip, got {option}, which means something else in "
                "every frame. Leave it out for clips."
            )
