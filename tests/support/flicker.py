"""How much a face changes from one frame to the next, apart from its movement."""

from __future__ import annotations

import cv2
import numpy as np

from faceprivacy_core.align import FFHQ_TEMPLATE, estimate_similarity
from faceprivacy_core.types import Face, Picture

SIDE = 96
INSIDE = slice(SIDE // 4, 3 * SIDE // 4)


def flicker(first: Picture, second: Picture, face: Face, other: Face) -> float:
    """Return the mean difference of two frames of a face, each laid on the aligned square, 0 to 255."""
    aligned = []
    for picture, one in ((first, face), (second, other)):
        to_square = estimate_similarity(one.landmarks5, FFHQ_TEMPLATE * SIDE - 0.5)
        aligned.append(cv2.warpAffine(picture, to_square, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.float64))
    return float(np.abs(aligned[0] - aligned[1])[INSIDE, INSIDE].mean())
