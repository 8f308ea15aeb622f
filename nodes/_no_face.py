"""What happens to a picture without a chosen face."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..faceprivacy_core.errors import InputError, NoFaceError
from ..faceprivacy_core.types import Faces
from . import _convert


class NoFacePolicy(str, Enum):
    """What happens to a picture without a chosen face."""

    ERROR = "error"
    PASS = "pass"  # noqa: S105 (a policy, not a password)
    BLUR = "blur"


def apply_policy(images: Tensor, pictures: Sequence[NDArray[np.uint8]], faces: Faces, policy: str, *, is_choice: bool) -> None:
    """Blur pictures without a chosen face in place, or refuse them.

    Args:
        images: (B, 3, H, W) in [0, 1]; changed in place.
        pictures: The same as (H, W, 3) uint8.
        faces: The chosen faces.
        policy: A value of `NoFacePolicy`.
        is_choice: Whether fewer than all faces were asked for, for the text.

    Raises:
        NoFaceError: There is such a picture and the policy is an error.
    """
    empty = [index for index in range(len(pictures)) if not faces.of_image(index)]
    if empty and policy == NoFacePolicy.ERROR:
        raise NoFaceError(
            f"Expected a face in every picture, found none{' that was chosen' if is_choice else ''} in "
            f"picture {empty[0]}. Lower 'confidence', choose other faces, or set 'on_no_face' to blur or pass."
        )
    if policy == NoFacePolicy.BLUR:
        for index in empty:
            images[index] = _convert.uint8_to_image(blur_whole(pictures[index]))


def blur_whole(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur a whole picture beyond recognition: sigma is 1/24 of its longer side."""
    if min(picture.shape[:2]) < 2:
        raise InputError(f"Expected a picture of at least 2 x 2 pixels, got {picture.shape[1]} x {picture.shape[0]}.")
    sigma = max(picture.shape[:2]) / 24.0
    return cv2.GaussianBlur(picture, (0, 0), sigma)
