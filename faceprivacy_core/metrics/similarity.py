"""How alike one recogniser finds a face before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, NumericalError
from ..protocols import FaceRecognizer
from ..types import FloatArray
from .fidelity import Picture

WINDOW_RADIUS = 4.5
"""Half the side of the window given to a recogniser, in root-mean-square distances of the landmarks
from their mean. The aligned crops of all recognisers of the pack end within 4."""

WINDOW_MARGIN_PX = 16


@dataclass(frozen=True, slots=True, eq=False)
class FaceWindow:
    """One face with its surroundings.

    Attributes:
        images: (1, 3, H, W) float32 RGB in [0, 1].
        landmarks5: (1, 5, 2) float64 in the window.
    """

    images: Tensor
    landmarks5: Tensor


def cut_window(picture: Picture, landmarks5: FloatArray) -> FaceWindow:
    """Cut out what recognisers need of a picture, so that its size does not matter to them.

    Args:
        picture: (H, W, 3) uint8 RGB. Not modified.
        landmarks5: (5, 2) in the picture.

    Raises:
        InputError: The face lies outside the picture.
    """
    left, top, right, bottom = _window(picture, landmarks5)
    pixels = torch.from_numpy(picture[top:bottom, left:right].copy())
    points = torch.from_numpy(np.asarray(landmarks5, dtype=np.float64) - (left, top))
    return FaceWindow(pixels.permute(2, 0, 1)[None].float() / 255.0, points[None])


def compute_similarity(before: FaceWindow, after: Sequence[FaceWindow], recognizer: FaceRecognizer) -> float:
    """Compute the cosine similarity of a face before and after.

    Args:
        before: The face in the original.
        after: One or more guesses where it is in the protected picture; the largest similarity
            counts, so that a badly placed face does not pass for a protected one.
        recognizer: Computes the identity vectors.

    Returns:
        In [-1, 1]; 1 for equal windows.

    Raises:
        NumericalError: The recogniser computed something that is not a number.
    """
    embedding = _embed(before, recognizer)
    largest = max(float(embedding @ _embed(window, recognizer)) for window in after)
    return min(max(largest, -1.0), 1.0)


def _embed(window: FaceWindow, recognizer: FaceRecognizer) -> FloatArray:
    with torch.no_grad():
        embedding = recognizer.embed(window.images, window.landmarks5)[0].double().cpu().numpy()
    if not np.isfinite(embedding).all():
        raise NumericalError(
            f"Expected numbers from the recogniser {recognizer.name}, got NaN or infinity. Fetch its weights again."
        )
    return embedding


def _window(picture: Picture, landmarks5: FloatArray) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of all pixels an aligned crop of this face may touch."""
    centre = landmarks5.mean(axis=0)
    spread = float(np.sqrt(((landmarks5 - centre) ** 2).sum(axis=1).mean()))
    radius = WINDOW_RADIUS * spread + WINDOW_MARGIN_PX
    limits = np.array(picture.shape[1::-1])
    left, top = (int(value) for value in np.clip(np.floor(centre - radius), 0, limits))
    right, bottom = (int(value) for value in np.clip(np.ceil(centre + radius) + 1, 0, limits))
    if left >= right or top >= bottom:
        raise InputError(
            f"Expected a face inside the picture of {limits[0]} x {limits[1]} pixels, got one around "
            f"({centre[0]:.0f}, {centre[1]:.0f}). Use the faces that were found in this picture."
        )
    return left, top, right, bottom
