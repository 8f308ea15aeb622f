"""Attacked latents as stock samplers take them to their end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import comfy.model_patcher
import torch
from torch import Tensor

from ..faceprivacy_core.adversarial.levels import Levels
from ..faceprivacy_core.adversarial.unconditional import EmptyCondition
from ..faceprivacy_core.cloak import CloakResult, CloakSettings
from ._host_levels import levels_of
from .schedule import TRAIN_STEPS, percent_range


def to_latent(model: comfy.model_patcher.ModelPatcher, result: CloakResult, shift: int) -> dict[str, Tensor]:
    """Return the attacked latents in the host's space, as stock samplers take them."""
    latents = finishing_latent(result.latents, result.levels, shift)
    return {"samples": model.get_model_object("latent_format").process_out(latents)}


def to_conditioning(
    model: comfy.model_patcher.ModelPatcher, result: CloakResult, positive: list, settings: CloakSettings
) -> list:
    """Return what the model is told at every level: the learned tokens by range, or the condition that came."""
    if settings.empty.kind == EmptyCondition.FIXED:
        return positive
    levels = result.levels
    declared = torch.tensor([levels[k - settings.shift] for k in range(1, len(levels) + 1)], dtype=torch.float64)
    timesteps = levels_of(model).schedule.timestep(declared).tolist()
    return finishing_conditioning(result.conditions.tokens.cpu(), positive[0][1].get("pooled_output"), timesteps)


def finishing_sigmas(levels: Levels, shift: int) -> Tensor:
    """Return the falling levels (K + 1,) on which euler makes the steps of `reverse_step`.

    The pass ends at the level that counts as clean, not at 0; a further step would change the latent.
    """
    return torch.tensor([levels[k - shift] for k in range(len(levels), -1, -1)], dtype=torch.float32)


def finishing_latent(latents: Tensor, levels: Levels, shift: int) -> Tensor:
    """Declare attacked latents (N, C, h, w) at the first of `finishing_sigmas`, VE coordinates.

    With the released shift that is one level cleaner than the latents are, and the result of euler
    lacks the last factor of `reverse_step`, which is 1.0004.
    """
    deepest, declared = levels[len(levels)], levels[len(levels) - shift]
    return latents * ((1.0 + declared**2) / (1.0 + deepest**2)) ** 0.5


def finishing_conditioning(tokens: Tensor, pooled: Tensor | None, timesteps: Sequence[float]) -> list[list[Any]]:
    """Make CONDITIONING that tells every step its own tokens.

    Args:
        tokens: (K, N, L, D), index k - 1 for step k.
        pooled: (1, P) for SDXL; None elsewhere.
        timesteps: K rising timesteps of 1000, at which the steps ask the model.

    Returns:
        K entries, the first for the deepest level; together they cover all timesteps once. Ranges
        meet half-way between two steps.
    """
    borders = [0.0, *((low + high) / 2.0 for low, high in pairwise(timesteps)), float(TRAIN_STEPS)]
    entries = []
    for k in range(len(timesteps), 0, -1):
        options: dict[str, Any] = dict(percent_range(borders[k], borders[k - 1]))
        if pooled is not None:
            options["pooled_output"] = pooled.expand(tokens.shape[1], -1).clone()
        entries.append([tokens[k - 1].clone(), options])
    return entries
