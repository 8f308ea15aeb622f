"""Faces at any roll: pictures are searched in four turns, and every find is looked at again from close by.

A detector that was trained on upright faces still answers to a face on its side, and puts an upright
face's landmarks there. So nothing trusts a find before it was seen upright: a small crop of it is
turned through the circle, and the turn in which the detector is surest is the face's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..align import FFHQ_TEMPLATE, estimate_similarity, transform_points
from ..types import Face, FloatArray, Picture
from .duplicates import SAME_SIZE, distinct_faces, merge_faces

LOOK_PX, FACE_PX = 192, 80
"""Side of the crop of a find, and the size its face has there: YuNet knows that size well."""

TURNS = 12
"""Rolls at which a crop is looked at, 30 degrees apart; landmarks are right within half of that."""

STRAIGHT_DEG = 12.0
"""A find that is upright to this angle is left as the search over the picture saw it."""

TIE = 0.03
"""A look that is surer by less says nothing about the roll."""

STRAIGHTENINGS, STRAIGHT_ENOUGH_DEG = 4, 2.0

MIN_LOOK_CONFIDENCE = 0.6
"""A find that is seen upright and from close by with less than this is no face."""

SURE_FIND, SURE_LOOK = 0.8, 0.75
"""A find that is less sure, is seen in one turn alone, and that with less than this, and is not seen as it was found, is a fold
of cloth or the like. Of 228 faces on photographs, 5 to 190 pixels high, none is."""

NEAR = 0.5
"""The face of a crop lies at most this part of its size away from the middle."""

EYES_TO_MOUTH = (0.25, 0.75)
REACH = 0.8
"""Of the size of its box: how far a face's eyes are from its mouth (0.35 to 0.54 on 260 faces, profiles too), and how
far any landmark may lie from the middle of the box."""

Search = Callable[[Picture], Iterable[tuple[int, Face]]]
"""Finds upright faces in four turns of a picture: yields how many quarters np.rot90 turned it, and a face of that picture."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """A face in a crop, and the crop's roll in degrees."""

    face: Face
    roll: float


def find_faces(picture: Picture, search: Search, look: Callable[[Picture], Iterable[Face]]) -> list[Face]:
    """Find the faces of a picture at any roll.

    Args:
        picture: (H, W, 3) uint8. Not modified.
        search: Finds upright faces of any size in four turns.
        look: Finds upright faces in a crop of 192 x 192 pixels, of about 80 pixels.

    Returns:
        Faces by falling confidence, landmarks in the order of an upright face; empty when there are none.
    """
    picture = np.ascontiguousarray(picture)
    finds = distinct_faces([_turn_back(face, quarter, picture.shape[:2]) for quarter, face in search(picture)])
    settled = (_settle(face, picture, look) for face in finds)
    return merge_faces([face for face in settled if face is not None])


def roll_deg(landmarks5: FloatArray) -> float:
    """Return by how many degrees a face is turned, clockwise as it is seen; 0 is upright."""
    turn = estimate_similarity(FFHQ_TEMPLATE, landmarks5)
    return float(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])))


def is_plausible(face: Face) -> bool:
    """Tell whether landmarks can be those of a face: in its box, eyes and mouth apart, in order, not mirrored."""
    size, points = face.area**0.5, face.landmarks5
    if not (np.isfinite(points).all() and size > 0):
        return False
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    down = mouth - eyes
    length = float(np.hypot(*down))
    if not EYES_TO_MOUTH[0] * size < length < EYES_TO_MOUTH[1] * size:
        return False
    nose = float((points[2] - eyes) @ down) / length**2
    # Seen along the face the left points come first; in profile they nearly coincide.
    pairs = (points[1] - points[0], points[4] - points[3])
    across = [float(down[1] * pair[0] - down[0] * pair[1]) / length**2 for pair in pairs]
    is_near = np.hypot(*(points - _centre(face)).T).max() < REACH * size
    return bool(is_near and -0.1 < nose < 1.1 and min(across) > -0.25)


def _settle(find: Face, picture: Picture, look: Callable[[Picture], Iterable[Face]]) -> Face | None:
    """Look at a find at every roll; return the face as it is seen upright, None if there is none."""
    rolls = [index * 360.0 / TURNS for index in range(TURNS)]
    seen = [one for roll in rolls if (one := _look_at(find, roll, picture, look)) is not None]
    if not seen:
        return None
    best = max(seen, key=lambda one: one.face.confidence)
    own = _look_at(find, roll_deg(find.landmarks5), picture, look)
    if own is None and len(seen) == 1 and find.confidence < SURE_FIND and best.face.confidence < SURE_LOOK:
        return None
    if own is not None and own.face.confidence > best.face.confidence - TIE:
        best = own
    straight = _straighten(best, find, picture, look)
    if straight.face.confidence < MIN_LOOK_CONFIDENCE or not is_plausible(straight.face):
        return None
    face = _out_of_crop(straight, find)
    roll = roll_deg(face.landmarks5)
    is_straight = abs(roll) < STRAIGHT_DEG and abs(_angle(roll_deg(find.landmarks5) - roll)) < STRAIGHT_DEG
    is_straight = is_straight and is_plausible(find)
    return find if is_straight else replace(face, confidence=min(face.confidence, find.confidence))


def _straighten(seen: _Seen, find: Face, picture: Picture, look: Callable[[Picture], Iterable[Face]]) -> _Seen:
    """Look again and again along the face: landmarks lean to upright, so one look is not enough."""
    for _ in range(STRAIGHTENINGS):
        rest = roll_deg(seen.face.landmarks5)
        if abs(rest) < STRAIGHT_ENOUGH_DEG:
            break
        closer = _look_at(find, seen.roll + rest, picture, look)
        if closer is None or closer.face.confidence < seen.face.confidence - TIE:
            break
        seen = closer
    return seen


def _look_at(find: Face, roll: float, picture: Picture, look: Callable[[Picture], Iterable[Face]]) -> _Seen | None:
    """Return the surest face in the middle of a crop of a find, turned upright if the face has that roll."""
    middle = (LOOK_PX - 1) / 2
    faces = [
        face
        for face in look(_cut(picture, _crop_to_image(find, roll)))
        if np.abs(_centre(face) - middle).max() < NEAR * FACE_PX and 1 / SAME_SIZE < face.area**0.5 / FACE_PX < SAME_SIZE
    ]
    return _Seen(max(faces, key=lambda face: face.confidence), roll) if faces else None


def _crop_to_image(find: Face, roll: float) -> FloatArray:
    scale, angle, middle = find.area**0.5 / FACE_PX, np.deg2rad(roll), (LOOK_PX - 1) / 2
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, _centre(find) - linear @ (middle, middle)])


def _cut(picture: Picture, crop_to_image: FloatArray) -> Picture:
    """Resample a crop; where it shrinks, its surroundings are averaged first."""
    scale = float(np.sqrt(np.linalg.det(crop_to_image[:, :2])))
    centre = transform_points(crop_to_image, np.full((1, 2), (LOOK_PX - 1) / 2))[0]
    reach = LOOK_PX / 2 * scale * np.sqrt(2.0) + 2
    low = np.clip(np.floor(centre - reach), 0, None).astype(int)
    high = np.minimum(np.ceil(centre + reach).astype(int), picture.shape[1::-1])
    window = picture[low[1] : high[1], low[0] : high[0]]
    to_window = crop_to_image - np.column_stack([np.zeros((2, 2)), low])
    if scale > 1.0:
        size = tuple(max(1, round(side / scale)) for side in window.shape[1::-1])
        ratio = np.array(size) / window.shape[1::-1]
        window = cv2.resize(window, size, interpolation=cv2.INTER_AREA)
        to_window = to_window * ratio[:, None]
        to_window[:, 2] += (ratio - 1) / 2
    method = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(window, to_window, (LOOK_PX, LOOK_PX), flags=method, borderMode=cv2.BORDER_REPLICATE)


def _out_of_crop(seen: _Seen, find: Face) -> Face:
    to_image = _crop_to_image(find, seen.roll)
    scale, angle = find.area**0.5 / FACE_PX, np.deg2rad(seen.roll)
    (x, y) = transform_points(to_image, _centre(seen.face)[None])[0]
    half = scale / 2 * np.array([seen.face.width, seen.face.height])
    # Sides between those of the upright and of the lying box, of about the same area at every roll.
    across, down = np.hypot(*(half * (np.cos(angle), np.sin(angle)))), np.hypot(*(half * (np.sin(angle), np.cos(angle))))
    landmarks = transform_points(to_image, seen.face.landmarks5)
    return Face(0, (x - across, y - down, x + across, y + down), landmarks, seen.face.confidence)


def _turn_back(face: Face, quarter: int, size: tuple[int, int]) -> Face:
    """Move a face of a picture that np.rot90 has turned to the picture of `size` (height, width)."""
    box, points = np.array(face.bbox_xyxy).reshape(2, 2), face.landmarks5
    for step in range(quarter, 0, -1):
        width = size[1] if step % 2 else size[0]  # of the picture before this turn
        box = np.column_stack([width - box[:, 1], box[:, 0]])
        points = np.column_stack([width - 1 - points[:, 1], points[:, 0]])
    low, high = box.min(axis=0), box.max(axis=0)
    return replace(face, bbox_xyxy=(*map(float, low), *map(float, high)), landmarks5=points)


def _centre(face: Face) -> FloatArray:
    left, top, right, bottom = face.bbox_xyxy
    return np.array([(left + right) / 2, (top + bottom) / 2])


def _angle(degrees: float) -> float:
    """Return the same angle between -180 and 180 degrees."""
    return (degrees + 180.0) % 360.0 - 180.0
