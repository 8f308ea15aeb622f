"""A tiny diffusion model of real parts with random weights, and faces small enough to attack in a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from faceprivacy_core.adversarial.goals import Dodge, Goal
from faceprivacy_core.adversarial.levels import Levels, choose_levels, invert_to_levels
from faceprivacy_core.adversarial.objective import Objective, Scene, Weights
from faceprivacy_core.adversarial.sight import Identities, see_sources
from faceprivacy_core.adversarial.unconditional import EmptyCondition, EmptySettings, find_empty_conditions
from faceprivacy_core.diffusion.attention import Recording, record_self_attention
from faceprivacy_core.diffusion.backends.diffusers import DiffusersDenoiser
from faceprivacy_core.diffusion.model import Capability, Condition
from faceprivacy_core.diffusion.schedules import NoiseSchedule
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
THRESHOLDS = torch.tensor([0.3, 0.3])
SCHEDULE = NoiseSchedule.scaled_linear()
LEVELS = choose_levels(SCHEDULE)
FIXED = EmptySettings(EmptyCondition.FIXED)
SIDE = 64


def tiny_unet(dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """A real UNet with four self-attention layers."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), attention_head_dim=4,
    )  # fmt: skip
    return (unet.double() if dtype == torch.float64 else unet).eval().requires_grad_(False)


def encode(images: Tensor) -> Tensor:
    small = 4.0 * (F.adaptive_avg_pool2d(images, 8) - 0.5)
    return torch.cat([small, small.mean(dim=1, keepdim=True)], dim=1)


def decode(latents: Tensor) -> Tensor:
    colours = latents[:, :3] + 0.1 * latents[:, 3:]
    return 0.5 + F.interpolate(colours, (SIDE, SIDE), mode="bilinear") / 4.0


@dataclass(frozen=True, eq=False)
class ToyModel:
    """As much of a `LatentModel` as an attack asks for, in parts that a test may exchange."""

    denoise: Callable[..., Tensor]
    schedule: NoiseSchedule
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    empty: Condition
    resolution: int
    record: Callable[[], AbstractContextManager[Recording]]
    at_once: int = 8
    capabilities = frozenset({Capability.ATTENTION, Capability.GRADIENT})


def tiny_model(dtype: torch.dtype = torch.float32) -> ToyModel:
    unet = tiny_unet(dtype)
    empty = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    model = DiffusersDenoiser(unet, SCHEDULE)
    return ToyModel(model, SCHEDULE, encode, decode, Condition(empty), SIDE, partial(record_self_attention, unet))


def network(model: ToyModel) -> nn.Module:
    return model.denoise.unet


def pictures(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Smooth random pictures (count, 3, 64, 64); picture i is the same in every batch."""
    items = [torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(10 + i), dtype=torch.float64) for i in range(count)]
    return (0.15 + 0.7 * F.interpolate(torch.cat(items), (SIDE, SIDE), mode="bilinear")).to(dtype)


def scene(count: int = 2, dtype: torch.dtype = torch.float32) -> Scene:
    mask = torch.zeros(count, 1, SIDE, SIDE, dtype=dtype)
    mask[..., 4:-4, 4:-4] = 1.0
    return Scene(pictures(count, dtype), mask, torch.zeros(count, 5, 2), tuple(range(count)))


def sources(of: Scene) -> Identities:
    return see_sources(RECOGNIZERS, of.originals, of.landmarks5)


def objective(
    count: int = 2,
    *,
    model: ToyModel | None = None,
    only: Sequence[int] | None = None,
    empty: EmptySettings = FIXED,
    weights: Weights | None = None,
    goal: Goal | None = None,
    dtype: torch.dtype = torch.float32,
    levels: Levels = LEVELS,
    **options: Any,
) -> Objective:
    """Prepare an attack on `count` faces, or on some of them."""
    faces = scene(count, dtype)
    if only is not None:
        rows = list(only)
        faces = Scene(faces.originals[rows], faces.mask[rows], faces.landmarks5[rows], [faces.seeds[row] for row in rows])
    model = model or tiny_model(dtype)
    trajectory = invert_to_levels(model.denoise, encode(faces.originals), levels, model.empty)
    conditions = find_empty_conditions(model, trajectory, levels, empty, shift=options.get("shift", 0))
    conditions = replace(conditions, tokens=conditions.tokens.to(dtype))
    goal = goal or Dodge(sources(faces), THRESHOLDS)
    weights = weights or Weights(1.0, 1.0)
    return Objective(model, levels, trajectory[-1], conditions, faces, RECOGNIZERS, goal, weights, **options)


class CountingModel:
    """A denoiser that counts the rows it has denoised, and those it was differentiated for."""

    def __init__(self, model: DiffusersDenoiser) -> None:
        self.model, self.unet, self.forward, self.backward = model, model.unet, 0, 0

    def __call__(self, x: Tensor, sigma: float, cond: Tensor) -> Tensor:
        self.forward += len(x)
        denoised = self.model(x, sigma, cond)
        if denoised.requires_grad:
            denoised.register_hook(self._count)
        return denoised

    def _count(self, gradient: Tensor) -> None:
        self.backward += len(gradient)
