"""The few shallow noise levels of the attack, and the inversion that climbs only these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..diffusion.schedules import NoiseSchedule
from ..errors import InputError, NumericalError
from ..protocols import Denoiser

GRID_SIGMAS = (0.228, 0.346, 0.458, 0.574, 0.698, 0.836, 0.990)
"""Levels of timesteps 51, 101, ... of 1000, the first ones of the released 20-step grid."""

PUBLISHED_DEPTH = 3
"""How many of them the paper attacks."""

CLEAN_TIMESTEP = 1
"""Level of the clean latent: the released grid begins here, where noise is 4 % of the signal."""

TOLERANCE = 0.05
"""Relative distance of a wanted level from the nearest one a model was trained on."""


@dataclass(frozen=True)
class Levels:
    """The noise levels of the attack, VE coordinates.

    Attributes:
        sigmas: K + 1 rising levels; the first is that of the clean latent.
        final: Level below the first, where only the released, shifted schedule ends.

    Notation: sigmas[k] is sigma_t / alpha_t of the paper's k-th timestep.
    """

    sigmas: tuple[float, ...]
    final: float

    def __post_init__(self) -> None:
        rising = (self.final, *self.sigmas)
        if len(self.sigmas) < 2 or not all(0.0 <= low < high for low, high in pairwise(rising)):
            raise InputError(
                f"Expected at least one noise level, strictly rising and above that of the clean latent, got {rising[2:]} "
                f"above {rising[:2]}."
            )

    def __len__(self) -> int:
        """Return K, the number of steps up or down."""
        return len(self.sigmas) - 1

    def __getitem__(self, k: int) -> float:
        """Return the level of step k from 0 to K; -1 is `final`."""
        return self.final if k == -1 else self.sigmas[k]


def choose_levels(schedule: NoiseSchedule, sigmas: Sequence[float] = GRID_SIGMAS[:PUBLISHED_DEPTH]) -> Levels:
    """Take the levels a model was trained on that are nearest to the wanted ones.

    Levels, not step numbers, so that every model is attacked equally deep.

    Args:
        schedule: Noise levels of the model.
        sigmas: K rising levels, VE coordinates.

    Raises:
        InputError: There is none, they do not rise, or the model knows no such level.
    """
    wanted = torch.as_tensor(list(sigmas), dtype=torch.float64)
    if len(wanted) == 0 or not bool(torch.isfinite(wanted).all()) or not bool((wanted > 0).all()):
        raise InputError(f"Expected one or more noise levels above 0, such as {GRID_SIGMAS}, got {tuple(sigmas)}.")
    found = schedule.sigmas[schedule.timestep(wanted).to(schedule.sigmas.device)].cpu()
    if bool(((found / wanted - 1.0).abs() > TOLERANCE).any()):
        low, high = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
        raise InputError(f"Expected noise levels the model knows, {low:.3f} to {high:.1f}, got {tuple(sigmas)}.")
    clean = float(schedule.sigmas[CLEAN_TIMESTEP])
    return Levels((clean, *found.tolist()), float(schedule.sigmas[0]))


def invert_to_levels(model: Denoiser, latent: Tensor, levels: Levels, cond: Any) -> Tensor:
    """Climb from the clean latent to the deepest level; the levels above it are never computed.

    x_{k+1} = x_k + (sigma_{k+1} - sigma_k) eps(x_k, sigma_k): the noise is the one predicted at the
    level that is left, as in the released code.

    Args:
        model: Denoiser, called K times; no gradient passes.
        latent: (B, C, h, w) clean latent. Not modified.
        levels: K + 1 levels.
        cond: Condition, the empty one.

    Returns:
        (K + 1, B, C, h, w), the first is the latent itself.

    Raises:
        NumericalError: A latent left the finite numbers.

    Source: Weakening diffusion purification (arXiv 2503.10350), DDIM inversion; Song et al.
        (2021), eq. 12.
    Deviations: only K of the grid's 19 steps; the clean latent is taken for the VE latent at
        level 0 (released: the VP one, a factor of 1.0009).
    Laws: test_truncated_inversion_is_the_beginning_of_the_full_one_bit_for_bit.
    """
    trajectory = [latent]
    with torch.no_grad():
        for sigma, sigma_next in pairwise(levels.sigmas):
            x = trajectory[-1]
            trajectory.append(x + (sigma_next - sigma) * predict_noise(model, x, sigma, cond))
    path = torch.stack(trajectory)
    if not bool(torch.isfinite(path).all()):
        raise NumericalError("The inversion left the finite numbers. Load the model in bf16 or fp32.")
    return path


def predict_noise(model: Denoiser, x: Tensor, sigma: float, cond: Any) -> Tensor:
    """Return the noise a denoiser sees in x (B, C, h, w) at a level above 0."""
    return (x - model(x, sigma, cond)) / sigma
