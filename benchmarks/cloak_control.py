"""The control of cloaking: the same attack through a model whose UNet was taken out, so that it owes nothing to diffusion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from faceprivacy_core.builtin.model import FaceModel
from faceprivacy_core.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class Unchanged:
    """Takes every latent for clean: denoised = x, so that no level differs from the clean one.

    Attributes:
        schedule: Noise levels of the UNet it stands for.
    """

    schedule: NoiseSchedule

    def __call__(self, x: Tensor, sigma: Tensor | float, cond: Any) -> Tensor:
        """Return x."""
        return x


def without_unet(model: FaceModel) -> FaceModel:
    """Return the model with its autoencoder and no UNet."""
    return replace(model, denoiser=Unchanged(model.denoiser.schedule))
