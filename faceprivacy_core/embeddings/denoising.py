"""How well a model denoises faces under given tokens: draws of (timestep, noise) and the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..diffusion.schedules import NoiseSchedule
from ..errors import InputError
from ..protocols import Denoiser
from ..rng import SEED_LIMIT
from .inversion import StageTokens
from .schedule import NUM_STAGES

HELD_OUT = -1
"""Number of the draws that choose the best tokens; training uses 0, 1, 2, ..."""
STEP_STRIDE = 1_000_003

Condition = Callable[[dict[str, Tensor]], Any]
"""Tokens (B, L, D) by encoder to the condition of a batch of B; gradients pass."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Faces that are to be denoised well, and the frozen model that does it.

    Attributes:
        model: Denoiser; frozen.
        condition: Turns tokens into what the model takes.
        schedule: Noise levels of the model's training timesteps.
        latents: (N, C, h, w) float32, the mode of the encoder's posterior, in the model's space.
        seeds: One for each face; a face's result depends on its own seed alone.
        num_stages: Equal parts K of the time axis.
        micro_batch: Latents in one call of the model; bounds the memory.

    Raises:
        InputError: The number of seeds is not that of faces, or the micro-batch is empty.
    """

    model: Denoiser
    condition: Condition
    schedule: NoiseSchedule
    latents: Tensor
    seeds: Sequence[int]
    num_stages: int = NUM_STAGES
    micro_batch: int = 8

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.latents) or self.micro_batch < 1:
            raise InputError(
                f"Expected one seed for each of {len(self.latents)} faces and a micro-batch of at least 1, got "
                f"{len(self.seeds)} seeds and a micro-batch of {self.micro_batch}."
            )


@dataclass(frozen=True, eq=False)
class Draws:
    """What one pass over all stages denoises, one entry for each item.

    Attributes:
        stages, faces: (B,) int64, which tokens an item uses.
        sigmas: (B,) noise levels.
        noise: (B, C, h, w) unit noise.
    """

    stages: Tensor
    faces: Tensor
    sigmas: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.stages)

    def of_faces(self, chosen: Tensor) -> Draws:
        """Keep the items of faces where `chosen` (N,) is true."""
        keep = chosen.to(self.faces.device)[self.faces]
        return Draws(self.stages[keep], self.faces[keep], self.sigmas[keep], self.noise[keep])

    def split(self, size: int) -> Iterator[Draws]:
        """Yield pieces of at most `size` items."""
        parts = (self.stages.split(size), self.faces.split(size), self.sigmas.split(size), self.noise.split(size))
        yield from (Draws(*piece) for piece in zip(*parts, strict=True))


def draw(task: Lesson, faces: Sequence[int], number: int, per_stage: int, *, even: bool = False) -> Draws:
    """Draw timesteps and noise: `per_stage` for each of the stages of each face.

    Args:
        task: Faces, seeds and schedule.
        faces: Indices of the faces that take part.
        number: Number of the draw, below a million. The same number gives the same draws,
            whichever faces take part.
        per_stage: Draws for each stage and face.
        even: Spread the timesteps evenly over each stage instead of drawing them.
    """
    items = torch.cartesian_prod(torch.arange(task.num_stages), torch.arange(per_stage))
    timesteps, noise = [], []
    for face in faces:
        generator = torch.Generator().manual_seed((task.seeds[face] * STEP_STRIDE + number) % SEED_LIMIT)
        part = (items[:, 1] + 0.5) / per_stage if even else torch.rand(len(items), generator=generator)
        t = ((items[:, 0] + part) * len(task.schedule) / task.num_stages).long()
        timesteps.append(t.clamp(max=len(task.schedule) - 1))
        noise.append(torch.randn((len(items), *task.latents.shape[1:]), generator=generator))
    device = task.latents.device
    return Draws(
        items[:, 0].repeat(len(faces)).to(device),
        torch.tensor(faces).repeat_interleave(len(items)).to(device),
        task.schedule.sigmas[torch.cat(timesteps)].float().to(device),
        torch.cat(noise).to(device),
    )


def noise_errors(task: Lesson, tokens: Mapping[str, StageTokens], draws: Draws) -> Tensor:
    """Compute the squared error of the predicted noise, mean over the latent, (B,).

    Notation: e = ||eps - eps_hat||^2 / (C h w); with x = z0 + sigma eps the difference is (z0 - D(x)) / sigma.
    """
    chosen = {name: _chosen(entry, draws) for name, entry in tokens.items()}
    z0, sigma = task.latents[draws.faces], draws.sigmas.view(-1, 1, 1, 1)
    denoised = task.model(z0 + sigma * draws.noise, draws.sigmas, task.condition(chosen))
    return ((z0 - denoised.float()) / sigma).square().flatten(1).mean(1)


def mean_errors(task: Lesson, tokens: Mapping[str, StageTokens], draws: Draws) -> Tensor:
    """Compute the mean error of every stage and face, (K, N), without gradients; 0 where nothing was drawn."""
    total = task.latents.new_zeros(task.num_stages, len(task.latents))
    count = torch.zeros_like(total)
    with torch.no_grad():
        for piece in draws.split(task.micro_batch):
            where = (piece.stages, piece.faces)
            total.index_put_(where, noise_errors(task, tokens, piece), accumulate=True)
            count.index_put_(where, torch.ones_like(piece.sigmas), accumulate=True)
    return total / count.clamp(min=1.0)


def _chosen(tokens: StageTokens, draws: Draws) -> Tensor:
    offsets = tokens.offsets[draws.stages, draws.faces]
    return offsets if tokens.base is None else tokens.base[draws.faces] + offsets
