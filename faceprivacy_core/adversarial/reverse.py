"""One step down the levels, as aligned DDIM takes it or as the released code does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..protocols import Denoiser
from .levels import Levels, predict_noise

ALIGNED, RELEASED = 0, 1
"""Values of `shift`: the level a latent has is declared, or the one below it."""


def check_shift(shift: int) -> None:
    """Raise InputError unless the shift is 0 or 1."""
    if shift not in (ALIGNED, RELEASED):
        raise InputError(f"Expected a declared shift of 0 (aligned) or 1 (as released), got {shift}.")


def reverse_step(
    model: Denoiser, x: Tensor, levels: Levels, k: int, cond: Any, *, shift: int = ALIGNED, through_model: bool = True
) -> Tensor:
    """Go from level k to level k - 1.

    Aligned, this is Euler: x' = x + (sigma' - sigma) eps(x, sigma). The released code declares
    every latent one level cleaner than it is: the same numbers z = x / sqrt(1 + sigma^2) are given
    to the model with the level below.

    Args:
        model: Denoiser.
        x: (B, C, h, w) at level k, VE coordinates. Not modified.
        levels: K + 1 levels.
        k: 1 to K.
        cond: Condition of this step.
        shift: 0 aligned, 1 released.
        through_model: Whether gradients pass through the model; if not, the predicted noise counts
            as constant and the step passes gradients on unchanged (times a constant when shifted).

    Returns:
        (B, C, h, w) at level k - 1.

    Source: arXiv 2503.10350; the shift is that of its released code, inherited from DiffAttack.
    Laws: test_a_constant_noise_is_taken_out_exactly, test_the_released_shift_ends_where_the_spec_says.
    """
    sigma, target = levels[k - shift], levels[k - shift - 1]
    x = _redeclare(x, levels[k], sigma)
    with torch.set_grad_enabled(through_model and torch.is_grad_enabled()):
        noise = predict_noise(model, x, sigma, cond)
    return _redeclare(x + (target - sigma) * noise, target, levels[k - 1])


def _redeclare(x: Tensor, sigma: float, declared: float) -> Tensor:
    """Read the VP latent of a VE latent at one level as that of another."""
    return x if sigma == declared else x * ((1.0 + declared**2) / (1.0 + sigma**2)) ** 0.5
