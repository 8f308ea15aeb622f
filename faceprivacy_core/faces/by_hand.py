"""Faces that somebody painted over or put a box around because no detector found them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..protocols import FaceDetector
from ..types import Face, Faces, Picture
from .duplicates import is_same_face
from .select import Order, order_faces

GUESSED = 0.0
"""Confidence of a face whose landmarks no detector found: recognisers cannot compare it."""
MIN_PATCH_PX = 8
"""Smaller patches, in width or height, are slips of the brush and are left out."""
WINDOW, WINDOW_PX = 2.5, 320
"""Side of the window that is searched: times the longer side of the patch, and pixels it is enlarged or reduced to."""
SIZES = (0.2, 3.0)
"""Area of a find, times that of the patch, between which it counts as what was painted over."""
LAYOUT = ((0.31, 0.40), (0.69, 0.40), (0.50, 0.60), (0.34, 0.78), (0.66, 0.78))
"""Where eyes, nose and corners of the mouth of an upright face lie in its box, as fractions of width and height."""

Box = tuple[float, float, float, float]


def add_painted_faces(
    found: Faces, pictures: Sequence[Picture], masks: Tensor, detector: FaceDetector, order: Order = Order.LEFT_TO_RIGHT
) -> Faces:
    """Add a face for every separate patch of a mask that covers none of the chosen faces.

    A detector looks into the patch again, enlarged. What it finds there gives the landmarks; else they are guessed: those
    of an upright face that fills the patch, with confidence 0.

    Args:
        found: Faces that were chosen already; they stay.
        pictures: (H, W, 3) uint8, those of `found`.
        masks: (B, 1, h, w) in [0, 1]; painted where above 0.5. Where nothing is painted any size will do.
        detector: As sensitive as is useful: where somebody painted, there is a face.
        order: How the faces of a picture are numbered.

    Raises:
        InputError: Something is painted on a mask of another size than the pictures.
    """
    if not bool((masks > 0.5).any()):
        return found
    if masks.shape[-2:] != (found.height, found.width):
        raise InputError(
            f"Expected a painted mask of the pictures' size, {found.width} x {found.height}, got {masks.shape[-1]} x "
            f"{masks.shape[-2]}. Paint on the picture that is protected."
        )
    return _add(found, pictures, [patches(mask.numpy()) for mask in masks[:, 0]], detector, order)


def add_faces_in_boxes(
    found: Faces,
    pictures: Sequence[Picture],
    boxes: Sequence[Sequence[Box]],
    detector: FaceDetector,
    order: Order = Order.LEFT_TO_RIGHT,
) -> Faces:
    """Add a face for every box that covers none of the chosen faces; see `add_painted_faces`.

    Args:
        found: Faces that were chosen already; they stay.
        pictures: (H, W, 3) uint8, those of `found`.
        boxes: Left, top, right, bottom of every box of every picture, in pixels; what lies outside a picture is cut off.
        detector: As sensitive as is useful: where somebody put a box, there is a face.
        order: How the faces of a picture are numbered.

    Raises:
        InputError: There are boxes for another number of pictures, or one is no box, or is too small inside its picture.
    """
    if len(boxes) != len(pictures):
        raise InputError(f"Expected boxes for {len(pictures)} pictures, got them for {len(boxes)}.")
    return _add(found, pictures, [[_inside(found, box) for box in ones] for ones in boxes], detector, order)


def _inside(found: Faces, box: Box) -> Box:
    left, top, right, bottom = box
    inside = max(0.0, left), max(0.0, top), min(float(found.width), right), min(float(found.height), bottom)
    if not np.isfinite(box).all() or min(inside[2] - inside[0], inside[3] - inside[1]) < MIN_PATCH_PX:
        raise InputError(
            f"Expected boxes of at least {MIN_PATCH_PX} x {MIN_PATCH_PX} pixels inside the picture of {found.width} x "
            f"{found.height}, got one from ({left:g}, {top:g}) to ({right:g}, {bottom:g}). Boxes count in its pixels."
        )
    return inside


def _add(
    found: Faces, pictures: Sequence[Picture], boxes: Sequence[Sequence[Box]], detector: FaceDetector, order: Order
) -> Faces:  # fmt: skip
    items: list[Face] = []
    for index, (picture, here) in enumerate(zip(pictures, boxes, strict=True)):
        known = found.of_image(index)
        painted = [face_in_box(picture, box, detector) for box in here]
        new = [face for face in painted if not any(_is_covered(face, other) for other in known)]
        items += [replace(face, image_index=index) for face in order_faces([*known, *new], order)]
    return replace(found, items=tuple(items))


def patches(mask: NDArray[np.floating]) -> list[Box]:
    """Return the boxes (left, top, right, bottom) of the separate patches of a mask (H, W)."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8), connectivity=8)
    return [
        (float(left), float(top), float(left + width), float(top + height))
        for left, top, width, height, _ in boxes[1:].tolist()
        if min(width, height) >= MIN_PATCH_PX
    ]


def face_in_box(picture: Picture, box: Box, detector: FaceDetector) -> Face:
    """Find the face in a box, or guess it."""
    left, top, right, bottom = box
    centre, side = np.array([(left + right) / 2, (top + bottom) / 2]), WINDOW * max(right - left, bottom - top)
    scale = WINDOW_PX / side
    shift = WINDOW_PX / 2 - scale * centre
    to_window = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    window = cv2.warpAffine(picture, to_window, (WINDOW_PX, WINDOW_PX), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    finds = [_back(face, scale, shift) for face in detector.detect(window)]
    area = (right - left) * (bottom - top)
    fitting = [
        face
        for face in finds
        if left <= face.landmarks5[2, 0] <= right
        and top <= face.landmarks5[2, 1] <= bottom
        and SIZES[0] * area <= face.area <= SIZES[1] * area
    ]
    if fitting:
        return max(fitting, key=lambda face: face.confidence)
    corner, size = np.array([left, top]), np.array([right - left, bottom - top])
    return Face(0, box, corner + size * np.array(LAYOUT), GUESSED)


def is_guessed(face: Face) -> bool:
    """Tell whether nobody knows where eyes and mouth of a face are."""
    return face.confidence <= GUESSED


def _back(face: Face, scale: float, shift: NDArray[np.float64]) -> Face:
    """Move a find from the window to the picture."""
    box = (np.array(face.bbox_xyxy).reshape(2, 2) - shift) / scale
    return Face(0, tuple(float(value) for value in box.ravel()), (face.landmarks5 - shift) / scale, face.confidence)


def _is_covered(face: Face, other: Face) -> bool:
    """Tell whether a chosen face is the painted one."""
    nose = other.landmarks5[2]
    left, top, right, bottom = face.bbox_xyxy
    is_inside = left <= nose[0] <= right and top <= nose[1] <= bottom
    return is_same_face(face, other) or (is_guessed(face) and is_inside)
