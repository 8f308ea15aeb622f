"""Value objects that travel between the parts of the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

FloatArray = NDArray[np.floating[Any]]
Picture = NDArray[np.uint8]
"""(H, W, 3) RGB, where nothing else is said."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One detected face.

    Attributes:
        image_index: Which image of the batch the face is in, from 0.
        bbox_xyxy: Left, top, right, bottom in pixels, half-open; may leave the image.
        landmarks5: (5, 2) float64 pixel coordinates (x, y), pixel centres at integers:
            image-left eye, image-right eye, nose, image-left and image-right mouth corner.
        confidence: Detector confidence in [0, 1].
        track: Number of the person in a clip, from 0; None where nobody followed them.
    """

    image_index: int
    bbox_xyxy: tuple[float, float, float, float]
    landmarks5: FloatArray
    confidence: float
    track: int | None = None

    def __post_init__(self) -> None:
        if np.shape(self.landmarks5) != (5, 2):
            raise InputError(f"Expected landmarks5 of shape (5, 2), got {np.shape(self.landmarks5)}.")

    @property
    def width(self) -> float:
        return self.bbox_xyxy[2] - self.bbox_xyxy[0]

    @property
    def height(self) -> float:
        return self.bbox_xyxy[3] - self.bbox_xyxy[1]

    @property
    def area(self) -> float:
        return self.width * self.height


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The chosen faces of a batch of images, in a stable order.

    Attributes:
        items: Faces ordered by image, then by the order that was asked for.
        num_images: Number of images in the batch; images without a face count too.
        height: Height of every image, pixels.
        width: Width of every image, pixels.
    """

    items: tuple[Face, ...]
    num_images: int
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.items)

    def of_image(self, image_index: int) -> tuple[Face, ...]:
        """Return the faces of one image, in order."""
        return tuple(face for face in self.items if face.image_index == image_index)


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrop:
    """Where an aligned square crop lies in its image.

    Attributes:
        face: The face the crop shows.
        size: Side of the crop in pixels.
        crop_to_image: (2, 3) float64 affine map from crop pixels to image pixels; a
            similarity, so nothing is squashed.
        landmarks5: (5, 2) float64, the landmarks in crop pixels.
    """

    face: Face
    size: int
    crop_to_image: FloatArray
    landmarks5: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrops:
    """All crops of a batch, in the order of `faces.items`."""

    items: tuple[FaceCrop, ...]
    faces: Faces
    size: int = field(kw_only=True)

    def __len__(self) -> int:
        return len(self.items)
