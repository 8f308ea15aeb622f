"""Filling a region so that it fits its surroundings: sampling with steps back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..protocols import Denoiser, Progress
from .samplers import Background, check_falling

CALM_BELOW = 0.5
"""Noise level under which nothing of the layout changes any more, so no step is repeated."""


def sample_resampled(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any,
    *,
    background: Background,
    draw: Callable[[], Tensor],
    repeats: int = 4,
    progress: Progress | None = None,
) -> Tensor:
    """Inpaint with Euler steps, each taken several times with fresh noise in between.

    A plain sampler meets the surroundings anew in every step and has no time to agree with
    them. Going back up and down again lets the region settle to what surrounds it.

    Args:
        model: Denoiser.
        x: (B, C, h, w) latent at noise level sigmas[0], VE coordinates. Not modified.
        sigmas: (n + 1,) falling noise levels; may end in 0.
        cond: Conditioning for every call of the model.
        background: What is held, and where the sampler may act.
        draw: Returns unit noise shaped like x, new at every call.
        repeats: How often each step above noise level 0.5 is taken; 1 is plain sampling.
        progress: Called after every step.

    Returns:
        (B, C, h, w) latent at noise level sigmas[-1].

    Source: RePaint (Lugmayr et al. 2022, arXiv 2201.09865), algorithm 1, with jumps of one
        step. Deviation: deterministic steps down, in VE coordinates.
    """
    check_falling(sigmas)
    if repeats < 1:
        raise InputError(f"Expected every step to be taken at least once, got repeats {repeats}.")
    levels = sigmas.tolist()
    x = background.restore(x, levels[0])
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        taken = repeats if sigma_next > CALM_BELOW else 1
        for again in reversed(range(taken)):
            denoised = model(x, sigma, cond)
            x = background.restore(denoised + (sigma_next / sigma) * (x - denoised), sigma_next)
            if again:
                x = background.restore(x + (sigma**2 - sigma_next**2) ** 0.5 * draw(), sigma)
        if progress is not None:
            progress(i + 1, len(levels) - 1, denoised)
    return x
