"""Soft face masks drawn from five landmarks, and the algebra on them.

Shapes are given in the aligned frame of `align.FFHQ_TEMPLATE` (fractions of a square whose
side is about 4.4 times the distance between the eyes) and follow the face's rotation and
size into the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from .align import FFHQ_TEMPLATE, estimate_similarity, invert_affine, transform_points
from .errors import InputError
from .types import Face, Faces, FloatArray


class Region(str, Enum):
    """Part of the head a mask covers."""

    INNER_FACE = "inner face"
    FACE = "face with neck and ears"
    HEAD = "whole head"


@dataclass(frozen=True)
class Ellipse:
    """Axis-aligned ellipse in the aligned frame, fractions of its side."""

    x: float
    y: float
    radius_x: float
    radius_y: float


REGION_SHAPES: dict[Region, tuple[Ellipse, ...]] = {
    Region.INNER_FACE: (Ellipse(0.5, 0.585, 0.29, 0.335), Ellipse(0.5, 0.44, 0.35, 0.2)),
    Region.FACE: (Ellipse(0.5, 0.55, 0.345, 0.38), Ellipse(0.5, 0.85, 0.23, 0.14)),
    Region.HEAD: (Ellipse(0.5, 0.48, 0.43, 0.46), Ellipse(0.5, 0.85, 0.25, 0.14)),
}


TURN_SHIFT = 0.5
"""The nose of a turned head points away from the cheek that one sees: shift of the inner face per shift of the nose."""
MAX_SHIFT = 0.06


@dataclass(frozen=True)
class MaskSettings:
    """How a mask is drawn.

    Attributes:
        region: Part of the head.
        grow: Widening of the region in percent of the face crop's side, may be negative.
        feather: Width of the soft rim in percent of the crop's side, inside the region's
            outline, so that nothing beyond the outline is ever touched; 0 is a hard edge.
    """

    region: Region = Region.FACE
    grow: float = 0.0
    feather: float = 6.0

    def __post_init__(self) -> None:
        if not -20.0 <= self.grow <= 40.0:
            raise InputError(f"Expected grow between -20 and 40 percent, got {self.grow}.")
        if not 0.0 <= self.feather <= 30.0:
            raise InputError(f"Expected feather between 0 and 30 percent, got {self.feather}.")


def face_mask(face: Face, height: int, width: int, settings: MaskSettings) -> Tensor:
    """Draw the mask of one face.

    Returns:
        (height, width) float32 in [0, 1]; 1 inside, falling to 0 at the outline.
    """
    mask = torch.zeros(height, width)
    rows, columns, drawn = _draw(face, height, width, settings)
    mask[rows, columns] = drawn
    return mask


def draw_masks(faces: Faces, settings: MaskSettings) -> Tensor:
    """Draw the union of all face masks of every image.

    Returns:
        (num_images, height, width) float32 in [0, 1]; zero where an image has no face.
    """
    masks = torch.zeros(faces.num_images, faces.height, faces.width)
    for face in faces.items:
        rows, columns, drawn = _draw(face, faces.height, faces.width, settings)
        part = masks[face.image_index, rows, columns]
        masks[face.image_index, rows, columns] = torch.maximum(part, drawn)
    return masks


def _draw(face: Face, height: int, width: int, settings: MaskSettings) -> tuple[slice, slice, Tensor]:
    """Draw a face's mask in the rectangle it touches."""
    image_to_aligned = estimate_similarity(face.landmarks5, FFHQ_TEMPLATE)
    shapes = _shapes(settings.region, transform_points(image_to_aligned, face.landmarks5))
    rows, columns = _window(shapes, settings, invert_affine(image_to_aligned), height, width)
    y, x = np.mgrid[rows, columns]
    aligned_x, aligned_y = (row[0] * x + row[1] * y + row[2] for row in image_to_aligned)
    depth = _depth(shapes, aligned_x, aligned_y)
    if settings.region is Region.INNER_FACE:  # which never reaches beyond the face, however the head is turned
        depth = np.minimum(depth, _depth(REGION_SHAPES[Region.FACE], aligned_x, aligned_y))
    depth = depth + settings.grow / 100.0
    feather = settings.feather / 100.0
    ramp = np.clip(depth / feather, 0.0, 1.0) if feather > 0 else (depth > 0).astype(np.float64)
    return rows, columns, torch.from_numpy((ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32))


def _shapes(region: Region, aligned5: FloatArray) -> tuple[Ellipse, ...]:
    """Return the shapes of a region; those of the inner face move to the side that a turned head shows."""
    if region is not Region.INNER_FACE:
        return REGION_SHAPES[region]
    turn = float(aligned5[2, 0] - aligned5[[0, 1, 3, 4], 0].mean())
    shift = min(max(-TURN_SHIFT * turn, -MAX_SHIFT), MAX_SHIFT)
    return tuple(replace(shape, x=shape.x + shift) for shape in REGION_SHAPES[region])


def _window(
    shapes: tuple[Ellipse, ...], settings: MaskSettings, aligned_to_image: FloatArray, height: int, width: int
) -> tuple[slice, slice]:
    """Return rows and columns of the picture outside which the region's mask is 0; empty ones outside the picture."""
    corners = []
    for shape in shapes:
        reach = max(0.0, 1.0 + settings.grow / 100.0 / min(shape.radius_x, shape.radius_y))
        across, down = reach * shape.radius_x, reach * shape.radius_y
        corners += [(shape.x + i * across, shape.y + j * down) for i in (-1, 1) for j in (-1, 1)]
    spots = transform_points(aligned_to_image, np.array(corners))
    low = np.clip(np.floor(spots.min(axis=0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(spots.max(axis=0)) + 2, low, (width, height)).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _depth(shapes: tuple[Ellipse, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.max([_depth_inside(shape, x, y) for shape in shapes], axis=0)


def _depth_inside(shape: Ellipse, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Approximate distance inside the ellipse (negative outside), in crop sides."""
    radius = np.hypot((x - shape.x) / shape.radius_x, (y - shape.y) / shape.radius_y)
    return (1.0 - radius) * min(shape.radius_x, shape.radius_y)
