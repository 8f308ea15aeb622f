"""Take strands of hair off the forehead of a donor: under somebody else's hair they look like scratches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .blending import spread_out
from .outlines import find_skin
from .texture import gaussian_blur

THICK = 0.05
"""Strands are at most this wide, as a fraction of the side."""
DARKER = 0.05
"""By how much a strand is darker than what lies on both sides of it."""
SKIN_BLUR = 0.027
"""Standard deviation of the blur in which forehead with strands is still skin, and hair is not, as a fraction of the side."""
LOW, HIGH, WIDE = 0.42, 1.5, 0.95
"""Where a forehead begins above the eyes, how far up it reaches and how far to each side, in distances between the eyes."""


def clear_forehead(pictures: Tensor, landmarks5: Tensor) -> Tensor:
    """Fill thin dark lines on foreheads in from the skin around them.

    Args:
        pictures: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.

    Returns:
        (N, 3, S, S) in [0, 1]; what is not forehead is as it was, to the bit.
    """
    side = pictures.shape[-1]
    near = _odd(0.02 * side)
    shade = pictures.mean(1, keepdim=True)
    dark = _closed(shade, _odd(THICK * side)) - shade > DARKER
    skin = find_skin(gaussian_blur(pictures, SKIN_BLUR * side), landmarks5).to(pictures)
    skin = 1.0 - _grown(1.0 - skin, near)
    forehead = _foreheads(landmarks5, side).to(pictures) * skin
    strands = _grown(dark * forehead, near) * forehead
    filled = spread_out(pictures, skin * (1.0 - strands))
    return torch.lerp(pictures, filled, gaussian_blur(strands, 0.004 * side) * forehead)


def _foreheads(landmarks5: Tensor, side: int) -> Tensor:
    """Return where foreheads may be, (N, 1, S, S) bool."""
    left, right = landmarks5[:, 0].float(), landmarks5[:, 1].float()
    across, (x, y) = (right - left).norm(dim=1), ((left + right) / 2).T
    axis = torch.arange(side, dtype=torch.float32, device=landmarks5.device)
    above = (y[:, None] - axis) / across[:, None]
    beside = (axis - x[:, None]).abs() / across[:, None]
    return (((above > LOW) & (above < HIGH))[:, :, None] & (beside < WIDE)[:, None, :])[:, None]


def _closed(values: Tensor, reach: int) -> Tensor:
    """Fill what is darker than its surroundings and at most so wide (grey closing)."""
    return -_grown(-_grown(values, reach), reach)


def _grown(values: Tensor, reach: int) -> Tensor:
    around = F.pad(values, (reach // 2,) * 4, mode="replicate")
    return F.max_pool2d(around, reach, stride=1)


def _odd(size: float) -> int:
    return 2 * max(1, round(size / 2)) + 1
