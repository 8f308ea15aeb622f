"""Deterministic inversion: from a clean latent to the noise that Euler turns back into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import NumericalError
from ..protocols import Denoiser, Progress
from .samplers import Background, check_falling
from .schedules import ve_to_vp, vp_to_ve


@dataclass(frozen=True, eq=False)
class Inversion:
    """A noise map with the check of its own exactness.

    Attributes:
        noise: (B, C, h, w) latent at the highest noise level, VE coordinates; divided by
            that level it is close to unit Gaussian noise.
        residuals: (n, B) how far each implicit step is from solved, relative to the
            latent's change in that step; 0 is exact.
        evaluations: Calls of the model.
    """

    noise: Tensor
    residuals: Tensor
    evaluations: int

    @property
    def residual(self) -> float:
        """The worst relative residual over steps and images."""
        return float(self.residuals.max())


def invert_euler(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    cond: Any,
    *,
    iterations: int = 5,
    background: Background | None = None,
    progress: Progress | None = None,
) -> Inversion:
    """Invert `sample_euler` step by step with fixed-point iterations.

    A sampling step from sigma to sigma' gives x' = x + (sigma' - sigma) d(x, sigma). Its
    inverse solves x = x' + (sigma - sigma') d(x, sigma) for x; every iteration puts the
    last guess into the right side. The first guess reuses the slope of the step before.

    Args:
        model: Denoiser.
        x0: (B, C, h, w) latent at noise level sigmas[-1]. Not modified.
        sigmas: (n + 1,) falling noise levels of the sampler to be inverted.
        cond: Conditioning, the same as in sampling.
        iterations: Fixed-point iterations after the first evaluation; 0 is the naive inversion of the literature: the
            network gets the latent of the lower level as it is in VP coordinates, and is told the upper level. The model
            is called n * (1 + iterations) times.
        background: Region held to a given latent at every level, as in sampling. The rest is
            then inverted exactly, because both directions see the same surroundings.
        progress: Called after every step.

    Returns:
        The noise map with residuals. The best guess of every image is kept, so a step on
        which the iteration diverges is no worse than its best iterate.

    Raises:
        NumericalError: The latent left the finite numbers.

    Source: Song et al. (2021), section 4.3; the fixed point follows Pan et al. (2023), "Effective real image editing with
        accelerated iterative diffusion inversion"; the naive inversion is that of diffusers' DDIMInverseScheduler.
    Deviations: the first guess is extrapolated with the previous slope when iterating.
    """
    check_falling(sigmas)
    rising = sigmas.flip(0).tolist()
    hold = _hold_nothing if background is None else background.restore
    x, slope = hold(x0, rising[0]), None
    residuals = []
    for i, (sigma_low, sigma) in enumerate(pairwise(rising)):
        step = sigma - sigma_low
        guess = x if slope is None else x + step * slope
        if iterations == 0:
            guess = as_if_at(x, sigma_low, sigma)
        x, slope, residual = _solve_step(
            lambda latent, level=sigma: model(hold(latent, level), level, cond), x, guess, sigma, step, iterations, background
        )
        x = hold(x, sigma)
        residuals.append(residual)
        if not bool(torch.isfinite(residual).all() and torch.isfinite(x).all()):
            raise NumericalError(
                f"Inversion left the finite numbers at noise level {sigma:.3f}. Use more steps or fp32 weights."
            )
        if progress is not None:
            progress(i + 1, len(rising) - 1, x - sigma * slope)
    return Inversion(x, torch.stack(residuals), (len(rising) - 1) * (1 + iterations))


def as_if_at(x: Tensor, sigma: float, sigma_told: float) -> Tensor:
    """Scale a VE latent at level sigma so that the network, told another level, gets the same VP latent."""
    return vp_to_ve(ve_to_vp(x, sigma), sigma_told)


def _solve_step(
    denoise: Callable[[Tensor], Tensor],
    x_low: Tensor,
    guess: Tensor,
    sigma: float,
    step: float,
    iterations: int,
    background: Background | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve x = x_low + step * d(x, sigma); return x, the slope used and the residual (B,)."""
    best_residual = torch.full((x_low.shape[0],), torch.inf, device=x_low.device)
    best_x, best_slope = guess, torch.zeros_like(guess)
    for _ in range(1 + iterations):
        slope = (guess - denoise(guess)) / sigma
        update = x_low + step * slope
        free = 1.0 if background is None else background.mask
        residual = _norm(free * (update - guess)) / _norm(free * step * slope).clamp(min=1e-12)
        better = residual < best_residual
        keep = better.view(-1, 1, 1, 1)
        best_x, best_slope = torch.where(keep, update, best_x), torch.where(keep, slope, best_slope)
        best_residual = torch.where(better, residual, best_residual)
        guess = update
    return best_x, best_slope, best_residual


def _hold_nothing(x: Tensor, sigma: float) -> Tensor:
    return x


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).float().norm(dim=1)
