"""Pictures without a chosen face, in the host's terms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..faceprivacy_core.errors import NoFaceError
from ..faceprivacy_core.no_face import NoFacePolicy, blur_whole
from ..faceprivacy_core.types import Faces
from . import _convert


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
