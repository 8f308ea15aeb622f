"""Noise levels: the discrete training schedule and the two coordinate systems.

Variance preserving (VP): z_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise.
Variance exploding (VE):  x   = x0 + sigma noise, with x = z_t / sqrt(abar_t) and
sigma = sqrt((1 - abar_t) / abar_t). All solvers of this package work in VE coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

TRAIN_STEPS = 1000
SD_BETA_START = 0.00085
SD_BETA_END = 0.012


def scaled_linear_alphas_cumprod(
    num_steps: int = TRAIN_STEPS, beta_start: float = SD_BETA_START, beta_end: float = SD_BETA_END
) -> Tensor:
    """Compute abar_t of the "scaled linear" schedule, (num_steps,) float64, falling.

    Source: Rombach et al. (2022), latent diffusion; betas are squares of a linear ramp.
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_steps, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def alphas_cumprod_to_sigmas(alphas_cumprod: Tensor) -> Tensor:
    """Convert abar to the VE noise level sigma."""
    return ((1.0 - alphas_cumprod) / alphas_cumprod).sqrt()


def sigmas_to_alphas_cumprod(sigmas: Tensor) -> Tensor:
    """Convert the VE noise level sigma to abar."""
    return 1.0 / (1.0 + sigmas**2)


def vp_to_ve(z: Tensor, sigma: Tensor | float) -> Tensor:
    """Scale a VP latent to VE coordinates."""
    return z * (1.0 + torch.as_tensor(sigma, dtype=z.dtype, device=z.device) ** 2).sqrt()


def ve_to_vp(x: Tensor, sigma: Tensor | float) -> Tensor:
    """Scale a VE latent to VP coordinates."""
    return x / (1.0 + torch.as_tensor(sigma, dtype=x.dtype, device=x.device) ** 2).sqrt()


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The noise level of every training timestep.

    Attributes:
        sigmas: (T,) float64 VE noise levels, rising with the timestep.
    """

    sigmas: Tensor

    @classmethod
    def scaled_linear(
        cls, num_steps: int = TRAIN_STEPS, beta_start: float = SD_BETA_START, beta_end: float = SD_BETA_END
    ) -> NoiseSchedule:
        """Build the schedule of Stable Diffusion 1.x."""
        alphas_cumprod = scaled_linear_alphas_cumprod(num_steps, beta_start, beta_end)
        return cls(alphas_cumprod_to_sigmas(alphas_cumprod))

    def __len__(self) -> int:
        return len(self.sigmas)

    def timestep(self, sigma: Tensor) -> Tensor:
        """Return the training timestep nearest to sigma in log scale, int64, shaped like sigma."""
        log_sigmas = self.sigmas.to(sigma.device).log()
        distance = (sigma.double().log().unsqueeze(-1) - log_sigmas).abs()
        return distance.argmin(dim=-1)

    def continuous_timestep(self, sigma: float) -> float:
        """Return the timestep of sigma, interpolated in log sigma and clipped to the schedule."""
        log_sigmas = self.sigmas.log()
        log_sigma = torch.tensor(max(sigma, 1e-10), dtype=torch.float64).log().clamp(log_sigmas[0], log_sigmas[-1])
        high = int(torch.searchsorted(log_sigmas, log_sigma).clamp(1, len(self) - 1))
        low = high - 1
        weight = (log_sigma - log_sigmas[low]) / (log_sigmas[high] - log_sigmas[low])
        return low + float(weight)


def ddim_timesteps(steps: int, train_steps: int = TRAIN_STEPS) -> Tensor:
    """Return the rising DDIM grid 1, 1 + T//S, ... below T for S = `steps`.

    The stride is a whole number, so the grid has more than S timesteps when S does not divide
    T (31 for S = 30, T = 1000), and T - 1 for S = T. The host's `ddim_uniform` is the same.

    Source: Song et al. (2021), DDIM, as gridded by the latent-diffusion release.

    Raises:
        InputError: `steps` is not in 1..train_steps.
    """
    if not 1 <= steps <= train_steps:
        raise InputError(f"Expected 1 to {train_steps} sampling steps, got {steps}.")
    return torch.arange(1, train_steps, train_steps // steps)


def ddim_sigmas(schedule: NoiseSchedule, steps: int, strength: float = 1.0) -> Tensor:
    """Return falling noise levels for sampling, closed by 0.

    Args:
        schedule: The model's training schedule.
        steps: Steps S of the whole grid.
        strength: Part of the grid to use, counted from the clean end, in (0, 1].

    Returns:
        (n + 1,) float64 with n = round(strength * length of the grid), at least 1; the first
        value is the level at which sampling starts, the last is 0.
    """
    if not 0.0 < strength <= 1.0:
        raise InputError(f"Expected a strength above 0 and at most 1, got {strength}.")
    grid = ddim_timesteps(steps, len(schedule))
    timesteps = grid[: max(1, round(strength * len(grid)))]
    return torch.cat([schedule.sigmas[timesteps].flip(0), torch.zeros(1, dtype=torch.float64)])
