"""Soft face masks drawn from five landmarks, and the algebra on them.

Shapes are given in the aligned frame of `align.FFHQ_TEMPLATE` (fractions of a square whose
side is about 4.4 times the distance between the eyes) and follow the face's rotation and
size into the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from .align import FFHQ_TEMPLATE, estimate_similarity
from .errors import InputError
from .types import Face, Faces


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
    Region.INNER_FACE: (Ellipse(0.5, 0.575, 0.24, 0.30),),
    Region.FACE: (Ellipse(0.5, 0.55, 0.345, 0.38), Ellipse(0.5, 0.85, 0.23, 0.14)),
    Region.HEAD: (Ellipse(0.5, 0.48, 0.43, 0.46), Ellipse(0.5, 0.85, 0.25, 0.14)),
}


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
    image_to_aligned = estimate_similarity(face.landmarks5, FFHQ_TEMPLATE)
    y, x = np.mgrid[0:height, 0:width]
    aligned_x, aligned_y = (row[0] * x + row[1] * y + row[2] for row in image_to_aligned)
    depth = np.full((height, width), -np.inf)
    for shape in REGION_SHAPES[settings.region]:
        depth = np.maximum(depth, _depth_inside(shape, aligned_x, aligned_y))
    depth += settings.grow / 100.0
    feather = settings.feather / 100.0
    ramp = np.clip(depth / feather, 0.0, 1.0) if feather > 0 else (depth > 0).astype(np.float64)
    return torch.from_numpy((ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32))


def draw_masks(faces: Faces, settings: MaskSettings) -> Tensor:
    """Draw the union of all face masks of every image.

    Returns:
        (num_images, height, width) float32 in [0, 1]; zero where an image has no face.
    """
    masks = torch.zeros(faces.num_images, faces.height, faces.width)
    for face in faces.items:
        drawn = face_mask(face, faces.height, faces.width, settings)
        masks[face.image_index] = torch.maximum(masks[face.image_index], drawn)
    return masks


def _depth_inside(shape: Ellipse, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Approximate distance inside the ellipse (negative outside), in crop sides."""
    radius = np.hypot((x - shape.x) / shape.radius_x, (y - shape.y) / shape.radius_y)
    return (1.0 - radius) * min(shape.radius_x, shape.radius_y)
