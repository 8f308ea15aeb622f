"""Deterministic sampling. In VE coordinates DDIM with eta 0 is Euler's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..protocols import Denoiser, Progress

EditDenoised = Callable[[Tensor, float, float], Tensor]
"""Receives (denoised, sigma, next sigma), returns the denoised estimate to step towards."""


@dataclass(frozen=True, eq=False)
class Background:
    """What must stay: the clean latent, its noise, and where the sampler may act.

    Attributes:
        latent: (B, C, h, w) clean latent.
        noise: (B, C, h, w) unit noise, the same that the start latent was noised with.
        mask: (B, 1, h, w) in [0, 1], 1 where the sampler acts.
    """

    latent: Tensor
    noise: Tensor
    mask: Tensor

    def restore(self, x: Tensor, sigma: float) -> Tensor:
        """Put the background back at noise level sigma."""
        return self.mask * x + (1.0 - self.mask) * (self.latent + sigma * self.noise)


def sample_euler(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any,
    *,
    edit_denoised: EditDenoised | None = None,
    background: Background | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Integrate the probability-flow ODE with Euler steps.

    Args:
        model: Denoiser.
        x: (B, C, h, w) latent at noise level sigmas[0], VE coordinates. Not modified.
        sigmas: (n + 1,) falling noise levels; may end in 0.
        cond: Conditioning for every call of the model.
        edit_denoised: Changes the estimate before each step (guidance).
        background: Region held to a given latent, correctly noised at every level.
        progress: Called after every step with the denoised estimate.

    Returns:
        (B, C, h, w) latent at noise level sigmas[-1].

    Source: Song et al. (2021), DDIM, eq. 12 with eta 0; Karras et al. (2022), Algorithm 1.
    """
    check_falling(sigmas)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = model(x, sigma, cond)
        if edit_denoised is not None:
            denoised = edit_denoised(denoised, sigma, sigma_next)
        x = denoised + (sigma_next / sigma) * (x - denoised)
        if background is not None:
            x = background.restore(x, sigma_next)
        if progress is not None:
            progress(i + 1, len(sigmas) - 1, denoised)
    return x


def check_falling(sigmas: Tensor) -> None:
    """Raise InputError unless there are at least two strictly falling levels >= 0."""
    if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((sigmas[:-1] > sigmas[1:]).all()) or sigmas[-1] < 0:
        shown = torch.as_tensor(sigmas).flatten()[:4].tolist()
        raise InputError(f"Expected at least two strictly falling noise levels >= 0, got {shown} ...")
