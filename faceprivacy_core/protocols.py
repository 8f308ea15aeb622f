"""What the methods ask of the parts they are given."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .types import Face


class Denoiser(Protocol):
    """The one contract of the numerical core.

    A call takes x (B, C, h, w) in variance-exploding coordinates (x = x0 + sigma * noise),
    sigma as a float or a (B,) tensor, and a conditioning the adapter understands; it
    returns the denoised estimate of x0, shaped and scaled like x.
    """

    def __call__(self, x: Tensor, sigma: Tensor | float, cond: Any) -> Tensor: ...


@runtime_checkable
class FaceDetector(Protocol):
    """Finds every face of one image."""

    name: str

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Detect faces.

        Args:
            image: (H, W, 3) RGB.

        Returns:
            Faces by falling confidence, `image_index` 0; empty when there are none.
        """
        ...


@runtime_checkable
class FaceRecognizer(Protocol):
    """Turns faces into identity vectors; differentiable with respect to the images.

    Attributes:
        name: Short unique name, as in the weights table.
        family: Recognisers of one family share an architecture and training lineage; a
            claim of protection needs a family the method did not use.
        licence: Licence of the weights, as shown to users.
        thresholds: Similarity at which two photos count as one person, by false match
            rate: {0.01: t, 0.001: t}. From the calibration file.
        spare_thresholds: The same where a match leaves a face unprotected; never smaller.
    """

    name: str
    family: str
    licence: str
    thresholds: dict[float, float]
    spare_thresholds: dict[float, float]

    def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        """Compute identity vectors.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], whole pictures or crops of any size.
            landmarks5: (B, 5, 2) pixel coordinates in those images.

        Returns:
            (B, D) float32, every row of length 1.
        """
        ...


class PerceptualNetwork(Protocol):
    """Measures how different pictures look; `metrics.perceptual.PerceptualDistance` is one."""

    def compute_differentiable(self, images: Tensor, references: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the mean difference (B,) of images and references (B, 3, S, S) in [0, 1].

        Gradients pass to `images`. `mask` (B, 1, S, S) weighs the pixels.
        """
        ...


class Progress(Protocol):
    """Told about each finished step; may raise to cancel the work."""

    def __call__(self, step: int, total: int, preview: Tensor | None = None) -> None: ...
