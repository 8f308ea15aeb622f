"""Several finds of one face, of which one is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Face, FloatArray

SAME_SIZE = 1.6
"""Two finds whose sizes differ by more than this factor are two faces, or a face and a part of one."""

MERGE_IOU = 0.4
SAME_NOSE_DISTANCE = 0.25
"""Finds of one size are one face when their noses are nearer than this fraction of the larger width."""

PART_OVERLAP = 0.6
SURE_CONFIDENCE = 0.85
"""A less sure find that lies in a larger and surer face by PART_OVERLAP is a part of it."""


def distinct_faces(faces: Sequence[Face]) -> list[Face]:
    """Keep one find of every place and size: the most confident one.

    Returns:
        Faces by falling confidence; equal confidences left to right.
    """
    return _keep(faces, _same)


def merge_faces(faces: Sequence[Face]) -> list[Face]:
    """Keep one find of every face: the most confident one.

    Finds are one face when they are of about one size and overlap strongly or have nearly the same
    nose, or when an unsure one lies in a surer, larger one. A sure find of another size is another
    face, wherever it lies: somebody before a screen, a picture on a shirt.

    Returns:
        Faces by falling confidence; equal confidences left to right.
    """
    return _keep(faces, lambda face, others: _same(face, others) | _part(face, others))


def is_same_face(first: Face, second: Face) -> bool:
    """Tell whether two finds are one face, by overlap and size."""
    return bool(_same(_table([first])[0], _table([second]))[0])


BOX, NOSE, AREA, WIDTH, CONFIDENCE = slice(0, 4), slice(4, 6), 6, 7, 8
"""Columns of a table of finds: a crowd is compared with a find all at once, for it has hundreds."""


def _table(faces: Sequence[Face]) -> FloatArray:
    rows = [[*face.bbox_xyxy, *face.landmarks5[2], face.area, face.width, face.confidence] for face in faces]
    return np.array(rows, dtype=np.float64).reshape(len(faces), 9)


def _keep(faces: Sequence[Face], is_double: Callable[[FloatArray, FloatArray], NDArray[np.bool_]]) -> list[Face]:
    """Keep those that are doubles of none that was kept, the most confident first."""
    ordered = sorted(faces, key=lambda face: (-face.confidence, face.bbox_xyxy))
    table, kept = _table(ordered), []
    for index, row in enumerate(table):
        if not is_double(row, table[kept]).any():
            kept.append(index)
    return [ordered[index] for index in kept]


def _same(face: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """Tell which of (N, 9) others are a find (9,)."""
    small, large = np.minimum(face[AREA], others[:, AREA]), np.maximum(face[AREA], others[:, AREA])
    shared = _shared_areas(face, others)
    overlaps = shared > MERGE_IOU * (small + large - shared)
    distance = np.hypot(*(face[NOSE] - others[:, NOSE]).T)
    is_near = distance < SAME_NOSE_DISTANCE * np.maximum(face[WIDTH], others[:, WIDTH])
    return (large <= SAME_SIZE**2 * small) & (overlaps | is_near)


def _part(face: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """Tell of which others a find is an unsure part."""
    is_inside = (face[AREA] < others[:, AREA]) & (_shared_areas(face, others) > PART_OVERLAP * face[AREA])
    return is_inside & (face[CONFIDENCE] < SURE_CONFIDENCE)


def _shared_areas(face: FloatArray, others: FloatArray) -> FloatArray:
    low = np.maximum(face[BOX][:2], others[:, BOX][:, :2])
    high = np.minimum(face[BOX][2:], others[:, BOX][:, 2:])
    return np.clip(high - low, 0.0, None).prod(axis=1)
