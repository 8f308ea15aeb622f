"""Choosing faces: by size, number, order, or by whom they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..protocols import FaceDetector, FaceRecognizer
from ..types import Face, Faces
from .people import People, embed_faces, known_vectors, likeness

REFERENCE_FMR = 0.001


class Which(str, Enum):
    """Which of the detected faces are chosen."""

    ALL = "all"
    LARGEST = "largest"
    BY_NUMBER = "by number"
    ONLY_REFERENCE = "only the people in the reference"
    EXCEPT_REFERENCE = "all but the people in the reference"


class Order(str, Enum):
    """How the faces of one image are numbered."""

    LEFT_TO_RIGHT = "left to right"
    TOP_TO_BOTTOM = "top to bottom"
    LARGEST_FIRST = "largest first"
    MOST_CONFIDENT_FIRST = "most confident first"


@dataclass(frozen=True)
class Selection:
    """A choice of faces.

    Attributes:
        which: Rule.
        order: Numbering, from 0 in every image.
        numbers: Faces to keep when `which` is `by number`.
    """

    which: Which = Which.ALL
    order: Order = Order.LEFT_TO_RIGHT
    numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.which is Which.BY_NUMBER and not self.numbers:
            raise InputError("Expected at least one face number, such as 0 or 0, 2, got none.")
        if any(number < 0 for number in self.numbers):
            raise InputError(f"Expected face numbers from 0 on, got {list(self.numbers)}.")


def detect_faces(
    images: Sequence[NDArray[np.uint8]],
    detector: FaceDetector,
    selection: Selection,
    *,
    recognizers: Sequence[FaceRecognizer] = (),
    references: Sequence[NDArray[np.uint8]] = (),
    people: Sequence[People] = (),
) -> Faces:
    """Detect and choose the faces of a batch.

    Args:
        images: (H, W, 3) uint8 RGB pictures of one size.
        detector: Finds faces.
        selection: Which to keep and how to number them.
        recognizers: Needed by the reference rules.
        references: Pictures of the people the reference rules mean; every face in them counts.
        people: Saved people whom the reference rules mean, instead of pictures or besides them.

    Returns:
        The chosen faces; an image may have none.

    Raises:
        InputError: A number that no image has, or a reference rule without reference or
            recogniser, or with people whom a recogniser has not seen.
        NoFaceError: A reference picture holds no face.
    """
    found = [order_faces(detector.detect(image), selection.order) for image in images]
    if selection.which is Which.LARGEST:
        found = [[max(faces, key=lambda face: face.area)] if faces else [] for faces in found]
    elif selection.which is Which.BY_NUMBER:
        found = _pick_numbers(found, selection.numbers)
    elif selection.which is not Which.ALL:
        wanted = known_vectors(references, people, detector, recognizers)
        found = [
            _pick_people(image, faces, selection.which, recognizers, wanted) for image, faces in zip(images, found, strict=True)
        ]
    items = tuple(
        Face(index, face.bbox_xyxy, face.landmarks5, face.confidence) for index, faces in enumerate(found) for face in faces
    )
    height, width = images[0].shape[:2]
    return Faces(items, len(images), height, width)


def order_faces(faces: Sequence[Face], order: Order) -> list[Face]:
    """Sort the faces of one image; ties keep the detector's order."""
    keys = {
        Order.LEFT_TO_RIGHT: lambda face: face.bbox_xyxy[0],
        Order.TOP_TO_BOTTOM: lambda face: face.bbox_xyxy[1],
        Order.LARGEST_FIRST: lambda face: -face.area,
        Order.MOST_CONFIDENT_FIRST: lambda face: -face.confidence,
    }
    return sorted(faces, key=keys[order])


def parse_numbers(text: str) -> tuple[int, ...]:
    """Read face numbers from text such as `0, 2`; empty text is no number.

    Raises:
        InputError: Anything but whole numbers and commas.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"Expected face numbers separated by commas, such as 0, 2, got {text!r}.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _pick_numbers(found: list[list[Face]], numbers: tuple[int, ...]) -> list[list[Face]]:
    most = max((len(faces) for faces in found), default=0)
    missing = [number for number in numbers if number >= most]
    if missing:
        raise InputError(
            f"Expected face numbers below {most} (the most faces found in one image), got {missing}. "
            "Look at the numbered preview (on the command line: --dry-run)."
        )
    return [[faces[number] for number in numbers if number < len(faces)] for faces in found]


def _pick_people(
    image: NDArray[np.uint8],
    faces: list[Face],
    which: Which,
    recognizers: Sequence[FaceRecognizer],
    wanted: list[torch.Tensor],
) -> list[Face]:
    """Keep faces by person. In doubt a face is chosen: one recogniser suffices to choose
    "only these"; all must agree, at a higher threshold, to spare a face under "all but these"."""
    if not faces:
        return []
    only_these = which is Which.ONLY_REFERENCE
    matches = []
    for recognizer, known in zip(recognizers, wanted, strict=True):
        thresholds = recognizer.thresholds if only_these else recognizer.spare_thresholds
        matches.append(likeness(embed_faces(image, faces, recognizer), known) >= thresholds[REFERENCE_FMR])
    matched = torch.stack(matches)
    chosen = matched.any(dim=0) if only_these else ~matched.all(dim=0)
    return [face for face, keep in zip(faces, chosen.tolist(), strict=True) if keep]
