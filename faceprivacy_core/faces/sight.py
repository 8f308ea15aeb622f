"""What recognisers see of faces whose landmarks are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, UnsupportedModelError
from ..protocols import FaceRecognizer


def embed_all(recognizers: Sequence[FaceRecognizer], images: Tensor, landmarks5: Tensor) -> tuple[Tensor, ...]:
    """Embed images (B, 3, H, W) with every recogniser, one (B, D) tensor each."""
    return tuple(recognizer.embed(images, landmarks5) for recognizer in recognizers)


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
    with torch.inference_mode(False), torch.enable_grad():
        found = embed_all(recognizers, originals.detach().clone().requires_grad_(True), landmarks5.clone())
    for recognizer, vectors in zip(recognizers, found, strict=True):
        if not vectors.requires_grad:
            raise UnsupportedModelError(
                f"Expected recognisers that gradients pass through, got {recognizer.name}, which gives none. "
                "Use those that this program loads."
            )
    return tuple(vectors.detach() for vectors in found)


def scale_landmarks(landmarks5: Tensor, size: int, new_size: int) -> Tensor:
    """Move landmarks from a picture of one size to a resized copy (pixel-centre rule)."""
    return (landmarks5 + 0.5) * (new_size / size) - 0.5
