"""What recognisers see of faces whose landmarks are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, UnsupportedModelError
from ..protocols import FaceRecognizer

PICTURES_AT_ONCE = 8
"""Pictures that recognisers see together where no gradient is wanted: memory does not grow with their number."""


def embed_all(recognizers: Sequence[FaceRecognizer], images: Tensor, landmarks5: Tensor) -> tuple[Tensor, ...]:
    """Embed images (B, 3, H, W) with every recogniser, one (B, D) tensor each; without gradients a few at a time."""
    at_once = len(images) if torch.is_grad_enabled() else PICTURES_AT_ONCE
    parts = list(zip(images.split(max(1, at_once)), landmarks5.split(max(1, at_once)), strict=True))
    return tuple(torch.cat([recognizer.embed(*part) for part in parts]) for recognizer in recognizers)


def embed_originals(recognizers: Sequence[FaceRecognizer], originals: Tensor, landmarks5: Tensor) -> tuple[Tensor, ...]:
    """Find who faces are, through recognisers that gradients pass through.

    Args:
        recognizers: At least one; differentiable.
        originals: (N, 3, S, S) crops in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.

    Returns:
        One (N, D) tensor for each recogniser; no gradient.

    Raises:
        InputError: There is no recogniser.
        UnsupportedModelError: A recogniser gives no gradient.
    """
    if not recognizers:
        raise InputError("Expected at least one face recogniser, got none. Load one.")
    with torch.inference_mode(False):
        pictures, points = originals.detach().clone(), landmarks5.clone()
        with torch.enable_grad():  # for one alone: what is kept for a gradient is large
            first = embed_all(recognizers, pictures[:1].clone().requires_grad_(True), points[:1])
        _check_gradient(recognizers, first)
        with torch.no_grad():
            others = [embed_all(recognizers, pictures[1:], points[1:])] if len(pictures) > 1 else []
    return tuple(torch.cat([part.detach() for part in parts]) for parts in zip(first, *others, strict=True))


def _check_gradient(recognizers: Sequence[FaceRecognizer], found: Sequence[Tensor]) -> None:
    for recognizer, vectors in zip(recognizers, found, strict=True):
        if not vectors.requires_grad:
            raise UnsupportedModelError(
                f"Expected recognisers that gradients pass through, got {recognizer.name}, which gives none. "
                "Use those that this program loads."
            )


def scale_landmarks(landmarks5: Tensor, size: int, new_size: int) -> Tensor:
    """Move landmarks from a picture of one size to a resized copy (pixel-centre rule)."""
    return (landmarks5 + 0.5) * (new_size / size) - 0.5
