"""Where a clip cuts to another scene."""

from __future__ import annotations

import cv2
import numpy as np

from ..types import FloatArray, Picture

SIZE = (64, 36)
"""Frames are compared at this width and height: what moves within a cell is no cut."""
BINS = 8
CERTAIN_CHANGE = 0.3
"""Mean change of all values, of 1, that no movement makes."""
CHANGE, ALIKE = 0.08, 0.4
"""Less change is never a cut; more is one if what is where no longer correlates with the frame before, or"""
TIMES_USUAL, COLOUR_CHANGE = 3.0, 0.25
"""if it is this many times what was usual and the colours are others (Hellinger distance)."""
MEMORY = 0.8


class CutFinder:
    """Told the frames of a clip one after the other, says which begin another scene."""

    def __init__(self) -> None:
        self._last: FloatArray | None = None
        self._usual = 0.0

    def is_cut(self, picture: Picture) -> bool:
        """Tell whether a frame (H, W, 3) uint8 begins another scene than the frame before; the first one does not."""
        small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA).astype(np.float64) / 255.0
        last, self._last = self._last, small
        if last is None:
            return False
        change = float(np.abs(small - last).mean())
        is_other = change > TIMES_USUAL * self._usual and _colour_change(last, small) > COLOUR_CHANGE
        is_sudden = change > CHANGE and (is_other or _correlation(last, small) < ALIKE)
        is_cut = is_sudden or change > CERTAIN_CHANGE
        self._usual = 0.0 if is_cut else MEMORY * self._usual + (1.0 - MEMORY) * change
        return is_cut


def _colour_change(first: FloatArray, second: FloatArray) -> float:
    """Return the Hellinger distance of the colours of two frames, 0 to 1."""
    one, other = (
        np.histogramdd(frame.reshape(-1, 3), bins=BINS, range=[(0.0, 1.0)] * 3)[0].ravel() / (SIZE[0] * SIZE[1])
        for frame in (first, second)
    )
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(one * other).sum())))


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Return how what is where correlates, -1 to 1; 1 for two frames without anything."""
    one, other = (frame - frame.mean(axis=(0, 1)) for frame in (first, second))
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norm if norm > 1e-6 else 1.0
