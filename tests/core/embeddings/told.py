"""A model whose best tokens are known, and a real crop for the built-in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from faceprivacy_core.diffusion.schedules import NoiseSchedule
from faceprivacy_core.embeddings.denoising import Draws, Lesson

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "portrait.jpg"
STAGES, WIDTH, SHAPE = 5, 6, (2, 3, 3)


class ToldDenoiser(nn.Module):
    """Ideal denoiser of data N(m, 1) whose mean m the tokens tell: D(x, s) = (x + s^2 m) / (1 + s^2)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        size = torch.Size(SHAPE).numel()
        self.weight = nn.Parameter(torch.randn(WIDTH, size, generator=generator))
        self.calls: list[int] = []

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        self.calls.append(len(x))
        mean = (cond.mean(1) @ self.weight).view_as(x)
        level = sigma.view(-1, 1, 1, 1) ** 2
        return (x + level * mean) / (1 + level)


def make_task(count: int = 1, model: nn.Module | None = None, seeds: Sequence[int] | None = None, first: int = 0) -> Lesson:
    """Make a task of `count` faces, counted from `first`, whose latents tokens can tell exactly."""
    schedule = NoiseSchedule.scaled_linear()
    generator = torch.Generator().manual_seed(3)
    told = torch.randn(4, WIDTH, generator=generator)[first : first + count]
    model = ToldDenoiser() if model is None else model
    latents = (told @ ToldDenoiser().weight.detach()).view(count, *SHAPE)
    return Lesson(model, lambda t: t["unet"], schedule, latents, seeds or range(10, 10 + count), STAGES, micro_batch=4)


def ideal_errors(draws: Draws, num_stages: int) -> Tensor:
    """Return the error of each stage that is left when the mean is told exactly: noise that nobody can know."""
    unknown = draws.noise.square().flatten(1).mean(1) / (1 + draws.sigmas**2) ** 2
    return torch.stack([unknown[draws.stages == stage].mean() for stage in range(num_stages)])


def sample_crop(size: int) -> Tensor:
    """Cut the face out of the sample portrait: (1, 3, size, size) in [0, 1]."""
    picture = Image.open(SAMPLE).crop((130, 60, 530, 460)).resize((size, size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255.0
