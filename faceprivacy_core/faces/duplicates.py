"""Several finds of one face, of which one is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Face

SAME_SIZE = 1.6
"""Two finds whose sizes differ by more than this factor are two faces, or a face and a part of one."""

MERGE_IOU = 0.4
SAME_NOSE_DISTANCE = 0.25
"""Finds of one size are one face when their noses are nearer than this fraction of the larger width."""

PART_OVERLAP = 0.6
SURE_CONFIDENCE = 0.85
"""A less sure find that lies in a larger and surer face by PART_OVERLAP is a part of it."""


def merge_faces(faces: Sequence[Face]) -> list[Face]:
    """Keep one find of every face: the most confident one.

    Finds are one face when they are of about one size and overlap strongly or have nearly the same
    nose, or when an unsure one lies in a surer, larger one. A sure find of another size is another
    face, wherever it lies: somebody before a screen, a picture on a shirt.

    Returns:
        Faces by falling confidence; equal confidences left to right.
    """
    merged: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.confidence, face.bbox_xyxy)):
        if not any(is_same_face(face, other) or _is_part(face, other) for other in merged):
            merged.append(face)
    return merged


def is_same_face(first: Face, second: Face) -> bool:
    """Tell whether two finds are one face, by overlap and size."""
    small, large = sorted((first.area, second.area))
    if large > SAME_SIZE**2 * small:
        return False
    shared = _shared_area(first, second)
    if shared > MERGE_IOU * (small + large - shared):
        return True
    distance = float(np.linalg.norm(first.landmarks5[2] - second.landmarks5[2]))
    return distance < SAME_NOSE_DISTANCE * max(first.width, second.width)


def _is_part(face: Face, whole: Face) -> bool:
    is_inside = face.area < whole.area and _shared_area(face, whole) > PART_OVERLAP * face.area
    return is_inside and face.confidence < SURE_CONFIDENCE


def _shared_area(first: Face, second: Face) -> float:
    left, top = np.maximum(first.bbox_xyxy[:2], second.bbox_xyxy[:2])
    right, bottom = np.minimum(first.bbox_xyxy[2:], second.bbox_xyxy[2:])
    return float(max(0.0, right - left) * max(0.0, bottom - top))
