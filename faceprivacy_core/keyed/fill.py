"""Fills the place of a face from its surroundings, so that nothing of the face is left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..pixels import to_tensor
from ..types import Picture
from .regions import Claim, claimed_pixels


def remove_faces(pixels: Picture, claims: Sequence[Claim]) -> Tensor:
    """Fill every claim of a picture (H, W, 3) from its surroundings, (1, 3, H, W) in [0, 1]."""
    hidden = claimed_pixels(claims, *pixels.shape[:2]).astype(np.float32)
    return fill_from_surroundings(to_tensor(pixels), torch.from_numpy(hidden)[None, None])


def fill_from_surroundings(picture: Tensor, hidden: Tensor) -> Tensor:
    """Replace hidden pixels by a smooth continuation of the others.

    Means of visible pixels are taken over ever larger blocks; a hidden pixel gets the
    finest mean that exists, blended between blocks.

    Args:
        picture: (1, C, H, W). Hidden values have no influence on the result.
        hidden: (1, 1, H, W), 1 where a pixel is hidden, 0 where it is visible.

    Returns:
        (1, C, H, W); visible pixels as they were. If all are hidden, 0.5 everywhere.

    Source: push-pull interpolation (Gortler et al. 1996, "The lumigraph", section 3.3).
    """
    visible = (hidden < 0.5).to(picture)
    known = torch.where(visible > 0, picture, torch.zeros_like(picture))
    return _fill(known, visible)


def _fill(values: Tensor, weights: Tensor) -> Tensor:
    """Fill `values` (already multiplied by `weights` in [0, 1])."""
    means = values / weights.clamp(min=1e-8)
    if bool((weights > 0).all()) and bool((weights >= 1).all()):
        return means
    height, width = values.shape[-2:]
    if max(height, width) == 1:
        return torch.where(weights > 0, means, torch.full_like(means, 0.5))
    pad = (0, width % 2, 0, height % 2)
    coarse_values = F.avg_pool2d(F.pad(values, pad), 2) * 4.0
    coarse_weights = F.avg_pool2d(F.pad(weights, pad), 2) * 4.0
    scale = coarse_weights.clamp(min=1.0)
    coarse = _fill(coarse_values / scale, coarse_weights / scale)
    fine = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return weights * means + (1.0 - weights) * fine
