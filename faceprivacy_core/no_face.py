"""What becomes of a picture in which no face was found or chosen."""

from __future__ import annotations

from enum import Enum

import cv2

from .errors import InputError
from .types import Picture

SIGMA_PARTS = 24.0
"""The blur of a whole picture: its longer side through this is sigma."""


class NoFacePolicy(str, Enum):
    """What happens to a picture without a chosen face."""

    ERROR = "error"
    PASS = "pass"  # noqa: S105 (a policy, not a password)
    BLUR = "blur"


def blur_whole(picture: Picture) -> Picture:
    """Blur a whole picture beyond recognition.

    Args:
        picture: (H, W, 3) uint8.

    Raises:
        InputError: It has fewer than 2 x 2 pixels.
    """
    if min(picture.shape[:2]) < 2:
        raise InputError(f"Expected a picture of at least 2 x 2 pixels, got {picture.shape[1]} x {picture.shape[0]}.")
    return cv2.GaussianBlur(picture, (0, 0), max(picture.shape[:2]) / SIGMA_PARTS)
