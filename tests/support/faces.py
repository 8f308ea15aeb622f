"""Synthetic faces for tests: geometry without pictures of anybody."""

from __future__ import annotations

import numpy as np

from faceprivacy_core.align import FFHQ_TEMPLATE
from faceprivacy_core.types import Face, Faces


def synthetic_face(x: float, y: float, size: float, *, angle_deg: float = 0.0, image_index: int = 0) -> Face:
    """Return a face whose aligned crop is centred at (x, y) with a side of `size` pixels."""
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (FFHQ_TEMPLATE - 0.5) * size @ turn.T + (x, y)
    half = 0.25 * size
    return Face(image_index, (x - half, y - half, x + half, y + half), landmarks, 0.9)


def one_face(height: int = 200, width: int = 300, **kwargs: float) -> Faces:
    """Return one face in the middle of one picture."""
    return Faces((synthetic_face(width / 2, height / 2, 120, **kwargs),), 1, height, width)
