"""Energy guidance: the gradient of an energy of the decoded estimate moves the latent."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..diffusion.schedules import NoiseSchedule
from ..errors import InputError
from .gradient import Decode, ImageEnergy, energy_gradient

REFERENCE_STEPS = 50
"""Steps over the whole schedule at which `strength` is the paper's lambda."""

UNIT_STEP = 0.02
"""Change of the latent, in standard deviations, that strength 1 makes per reference step."""


@dataclass(frozen=True)
class GuidanceRange:
    """When guidance acts: from `start` down to, and not including, `end`.

    Ranges that meet share no step, so guidances with different settings can follow each
    other. An end of 0 includes the clean end.

    Attributes:
        start: First timestep fraction, 1 is pure noise.
        end: Last timestep fraction, 0 is clean.
    """

    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.end <= self.start <= 1.0:
            raise InputError(f"Expected 1 >= start >= end >= 0, got start {self.start} and end {self.end}.")

    def __contains__(self, fraction: float) -> bool:
        return self.end < fraction <= self.start or fraction == self.end == 0.0


@dataclass(eq=False)
class EnergyGuidance:
    """Edits the denoised estimate so that an Euler step carries the guidance.

    The paper's update, z' <- ddim(z) - lambda dE/dx0, is in VE coordinates
    x' <- x0 + (s'/s)(x - x0) - lambda sqrt(1 + s'^2) g. An Euler step from an edited
    estimate x0 - delta gives exactly that for
    delta = lambda sqrt(1 + s'^2) / (1 - s'/s) g.

    Attributes:
        energy: Images (B, 3, S, S) in [0, 1] to energies (B,).
        decode: Latents (B, C, h, w) in model space to images in about [0, 1].
        schedule: Noise levels of the model; makes strength independent of step count.
        strength: Lambda at 50 steps over the whole schedule; 0 is the identity.
        normalize: Give every image's gradient the root mean square `UNIT_STEP` before it is
            scaled, so that one strength suits every model; False is the released rule.
        active: When guidance acts.
        micro_batch: See `energy_gradient`.
        history: Mean energy at every guided step, for plots.

    Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), energy-guided denoising.
    Deviations: strength scales with the timesteps a step spans (released: constant per
        step, so that more steps push harder); optional normalisation of the gradient.
    """

    energy: ImageEnergy
    decode: Decode
    schedule: NoiseSchedule
    strength: float = 1.0
    normalize: bool = True
    active: GuidanceRange = field(default_factory=GuidanceRange)
    micro_batch: int | None = None
    history: list[float] = field(default_factory=list)

    def __call__(self, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """Edit the denoised estimate (B, C, h, w) of a step from sigma to sigma_next."""
        scale = self.step_strength(sigma, sigma_next)
        if scale == 0.0:
            return denoised
        gradient, energies = energy_gradient(denoised, self.decode, self.energy, micro_batch=self.micro_batch)
        self.history.append(float(energies.mean()))
        if self.normalize:
            gradient = UNIT_STEP * unit_rms(gradient)
        return edited_estimate(denoised, gradient, sigma, sigma_next, scale)

    def step_strength(self, sigma: float, sigma_next: float) -> float:
        """Return lambda for one step, 0 outside the active range."""
        timestep = self.schedule.continuous_timestep(sigma)
        if self.strength == 0.0 or timestep / (len(self.schedule) - 1) not in self.active:
            return 0.0
        span = timestep - (self.schedule.continuous_timestep(sigma_next) if sigma_next > 0 else 0.0)
        return self.strength * span * REFERENCE_STEPS / len(self.schedule)


@dataclass(frozen=True, eq=False)
class GuidedParts:
    """Guides parts of a batch one after the other, each by an energy of its own, so that memory does not grow with the batch.

    Attributes:
        parts: Indices into the batch, and what guides these items; every item is in one part.
    """

    parts: tuple[tuple[Tensor, EnergyGuidance], ...]

    def __call__(self, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """Edit the denoised estimate (B, C, h, w) of a step from sigma to sigma_next."""
        edited = denoised.clone()
        for items, guidance in self.parts:
            edited[items] = guidance(denoised[items], sigma, sigma_next)
        return edited

    @property
    def history(self) -> tuple[float, ...]:
        """Mean energy of all items at every guided step."""
        total = sum(len(items) for items, _ in self.parts)
        courses = [[len(items) / total * energy for energy in guidance.history] for items, guidance in self.parts]
        return tuple(map(sum, zip(*courses, strict=True)))


def edited_estimate(denoised: Tensor, gradient: Tensor, sigma: float, sigma_next: float, scale: float) -> Tensor:
    """Shift the estimate so that the Euler step lands at the guided update."""
    factor = scale * (1.0 + sigma_next**2) ** 0.5 / (1.0 - sigma_next / sigma)
    return denoised - factor * gradient


def unit_rms(gradient: Tensor) -> Tensor:
    """Scale every item (B, ...) to root mean square 1; an all-zero item stays zero."""
    rms = gradient.flatten(1).float().pow(2).mean(dim=1).sqrt()
    inverse = torch.where(rms > 0, 1.0 / rms.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
    return gradient * inverse.view(-1, *[1] * (gradient.ndim - 1)).to(gradient.dtype)
