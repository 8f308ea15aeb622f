"""A denoiser whose conditioning follows an embedding schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..diffusion.schedules import NoiseSchedule
from ..errors import InputError
from ..protocols import Denoiser
from .inversion import FaceInversion
from .schedule import Source, StageSchedule


class ScheduledDenoiser:
    """Chooses the conditioning by noise level, then calls the model.

    Args:
        model: Denoiser whose conditioning is a `Condition`.
        noise_schedule: Translates noise levels to timesteps.
        inversion: Stage embeddings of N faces; batches hold V * N items, variant by variant.
        schedule: When the picture's embedding acts.

    Source: Diff-Privacy (arXiv 2309.05330), embedding scheduling.
    """

    def __init__(
        self, model: Denoiser, noise_schedule: NoiseSchedule, inversion: FaceInversion, schedule: StageSchedule
    ) -> None:
        self.model = model
        self.noise_schedule = noise_schedule
        self.inversion = inversion
        self.schedule = schedule

    def __call__(self, x: Tensor, sigma: Tensor | float, cond: Any = None) -> Tensor:
        """Denoise x (V * N, C, h, w) at one noise level; `cond` is not used.

        Raises:
            InputError: The batch is no multiple of the faces.
        """
        if x.shape[0] % self.inversion.num_faces:
            raise InputError(
                f"Expected latents of the {self.inversion.num_faces} faces of the inversion, or several of each, got "
                f"{x.shape[0]}. Use the inversion of these faces."
            )
        level = float(torch.as_tensor(sigma).flatten()[0])
        timestep = self.noise_schedule.continuous_timestep(level)
        if self.schedule.source_at(timestep) is Source.EMPTY:
            return self.model(x, sigma, self.inversion.empty_condition())
        return self.model(x, sigma, self.inversion.condition_at(timestep, x.shape[0] // self.inversion.num_faces))
