"""Faces with too few pixels to be drawn anew: pixelated when that is wanted, refused otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .images import MIN_EYE_MOUTH_PX, describe_box, eye_mouth_distance
from .obscure import mosaic
from .pixels import to_pixels, to_tensor
from .types import Face, Faces, Picture

REACH = 0.85
"""Half the side of the square that is pixelated, in sizes of the face's box."""

BLOCKS = 5
"""Blocks along that square: fewer than three across the face, with one for both eyes."""


@dataclass(frozen=True)
class SmallFaces:
    """What becomes of small faces.

    Attributes:
        min_size: Faces whose box is smaller (root of its area, pixels) are small, as are all with
            fewer than `MIN_EYE_MOUTH_PX` pixels between eyes and mouth.
        pixelate: Pixelate them; otherwise a picture with one is refused.
    """

    min_size: float = 0.0
    pixelate: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_size < 1e5:
            raise InputError(f"Expected a least size of faces from 0 on, in pixels, got {self.min_size}.")

    def is_small(self, face: Face) -> bool:
        """Tell whether a face has too few pixels."""
        return face.area**0.5 < self.min_size or eye_mouth_distance(face) < MIN_EYE_MOUTH_PX

    def prepare(self, pixels: Picture, faces: Faces) -> tuple[Faces, NDArray[np.float32], Picture]:
        """Deal with the small faces of one picture.

        Args:
            pixels: (H, W, 3) uint8. Not modified.
            faces: Its faces.

        Returns:
            The other faces; (H, W) 1 where pixels were replaced, else 0; and the picture, the given one if nothing was.

        Raises:
            InputError: There is a small face and it is not to be pixelated.
        """
        small = [face for face in faces.items if self.is_small(face)]
        if small and not self.pixelate:
            raise InputError(
                f"Expected faces of at least {self.min_size:g} pixels, and {MIN_EYE_MOUTH_PX:.0f} between eyes and mouth, got "
                f"{len(small)} smaller ones, one at {describe_box(small[0])}. Say --blur-small to pixelate them."
            )
        replaced, result = np.zeros(pixels.shape[:2], np.float32), pixels.copy() if small else pixels
        for face in small:
            rows, columns = _square(face, *pixels.shape[:2])
            replaced[rows, columns] = 1.0
            result[rows, columns] = _pixelated(result[rows, columns])
        kept = tuple(face for face in faces.items if face not in small)
        return replace(faces, items=kept), replaced, result


KEEP_NONE = SmallFaces()
"""A picture with a face that is too small is refused."""


def _square(face: Face, height: int, width: int) -> tuple[slice, slice]:
    left, top, right, bottom = face.bbox_xyxy
    centre, reach = np.array([(left + right) / 2, (top + bottom) / 2]), REACH * face.area**0.5
    low = np.clip(np.floor(centre - reach), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(centre + reach), low + 1, (width, height)).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _pixelated(part: Picture) -> Picture:
    return to_pixels(mosaic(to_tensor(part)[0], math.ceil(max(part.shape[:2]) / BLOCKS))[None])
