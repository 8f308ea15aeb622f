"""Hide faces without drawing new ones: blur, mosaic, or one grey."""

from __future__ import annotations

import math
from enum import Enum

import cv2
import numpy as np
import torch
from torch import Tensor

from .masks import MaskSettings, face_mask
from .pixels import as_in, as_values
from .types import Face, Faces

BLUR_WIDTH = 1.0 / 5.0
"""Standard deviation of the blur, as a part of the longer side of a face's box."""

MOSAIC_CELLS = 6
"""Cells across the longer side of a face's box."""

GREY = 0.5


class Obscuring(str, Enum):
    """How a face is hidden; only `solid` keeps nothing of it."""

    BLUR = "blur"
    MOSAIC = "mosaic"
    SOLID = "solid"


def obscure_faces(images: Tensor, faces: Faces, how: Obscuring, mask: MaskSettings) -> tuple[Tensor, Tensor]:
    """Hide every given face.

    Args:
        images: (B, 3, H, W) on the CPU, values in [0, 1] or bytes. Not modified.
        faces: Faces to hide; may be none.
        how: What stands in their place.
        mask: Region that is hidden, up to its outline: a soft rim would show what lies under it.

    Returns:
        (B, 3, H, W), values or bytes as `images`, and (B, 1, H, W) with 1 where pixels were replaced, else 0.

    Laws: outside the mask nothing changes; a batch equals its pictures alone.
    """
    obscured, hidden = images.clone(), torch.zeros(len(images), 1, *images.shape[-2:])
    for face in faces.items:
        region = face_mask(face, faces.height, faces.width, mask) > 0
        if not bool(region.any()):
            continue
        rows, columns = (_span(region.any(dim=axis)) for axis in (1, 0))
        index, inside = face.image_index, region[rows, columns]
        picture = obscured[index]
        part = picture[:, rows, columns]
        part.copy_(torch.where(inside, as_in(part, _hidden(as_values(part), face, how)), part))
        hidden[index, 0, rows, columns] = torch.maximum(hidden[index, 0, rows, columns], inside.float())
    return obscured, hidden


def _hidden(part: Tensor, face: Face, how: Obscuring) -> Tensor:
    """Return what stands in place of a part of a picture, (3, h, w) in [0, 1]."""
    side = max(face.width, face.height)
    if how is Obscuring.SOLID:
        return torch.full_like(part, GREY)
    if how is Obscuring.MOSAIC:
        return mosaic(part, max(2, math.ceil(side / MOSAIC_CELLS)))
    return _blurred(part, max(1.0, BLUR_WIDTH * side))


def mosaic(part: Tensor, cell: int) -> Tensor:
    """Give (3, H, W) one colour, its mean, in every square of `cell` pixels."""
    height, width = part.shape[-2:]
    padded = torch.nn.functional.pad(part[None], (0, -width % cell, 0, -height % cell), mode="replicate")
    means = torch.nn.functional.avg_pool2d(padded, cell)
    return means.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)[0, :, :height, :width]


def _blurred(part: Tensor, sigma: float) -> Tensor:
    # Only the part itself is read, its rim repeated: what is around the face must not lighten the blur.
    pixels = np.ascontiguousarray(part.permute(1, 2, 0).numpy())
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(blurred).permute(2, 0, 1).clamp(0.0, 1.0)


def _span(line: Tensor) -> slice:
    used = line.nonzero()[:, 0]
    return slice(int(used[0]), int(used[-1]) + 1)
