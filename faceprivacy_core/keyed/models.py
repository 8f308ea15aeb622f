"""What keyed faces need of a latent diffusion model, and the built-in one in that form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..builtin.model import FaceModel
from ..diffusion.schedules import ddim_sigmas
from ..fingerprints import fingerprint, named_weights
from ..protocols import Denoiser

Job = Callable[[Denoiser, Tensor], Tensor]
"""Receives a denoiser (which ignores its conditioning argument) and noise levels, returns a latent."""


class KeyedModel(Protocol):
    """A latent diffusion model with its autoencoder and one fixed condition.

    Latents and pictures cross this border in float32 on the CPU; a job's latents are on `device`.

    Attributes:
        crop_size: Side of the face crops in pixels, a multiple of 8 and of `factor`.
        factor: Side of a crop divided by the side of its latent, see `regions.CELL_SIDES`.
        device: Where jobs compute.
        donors: (D, C, h, w) latents of faces of nobody, from which covers may begin; None for a model that brings none.
    """

    crop_size: int
    device: torch.device

    @property
    def factor(self) -> int: ...

    @property
    def donors(self) -> Tensor | None: ...

    def encode(self, crops: Tensor) -> Tensor:
        """Encode (N, 3, S, S) in [0, 1] to latents (N, C, S / factor, S / factor), the mode of the posterior."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to (N, 3, S, S) in [0, 1], with gradients if the latents ask for them."""
        ...

    def run(self, job: Job, latents: Tensor, steps: int) -> Tensor:
        """Run a job with the model's denoiser.

        Args:
            job: Called once, with falling noise levels of `steps` steps over the whole schedule.
            latents: (N, C, h, w), for their shape.
            steps: Sampling steps.

        Returns:
            The job's latent.
        """
        ...

    def vae_fingerprint(self) -> str:
        """Return 32 hexadecimal digits that change with any weight of the autoencoder."""
        ...

    def model_fingerprint(self) -> str:
        """Return the same for denoiser and autoencoder together, patches included."""
        ...

    def condition_fingerprint(self) -> str:
        """Return the same for the condition."""
        ...


class BuiltinKeyedModel:
    """The built-in face model under the empty condition."""

    def __init__(self, model: FaceModel) -> None:
        self.model = model
        self.crop_size = model.resolution
        self.device = next(model.autoencoder.parameters()).device

    @cached_property
    def factor(self) -> int:
        blank = torch.zeros(1, 3, self.crop_size, self.crop_size)
        return self.crop_size // self.encode(blank).shape[-1]

    @property
    def donors(self) -> Tensor | None:
        return self.model.donors.latents if self.model.file.donors else None

    def encode(self, crops: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.autoencoder.encode(crops.to(self.device) * 2.0 - 1.0).float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        decoded = self.model.autoencoder.decode(latents.to(self.device))
        return ((decoded + 1.0) / 2.0).clamp(0.0, 1.0).float().cpu()

    def run(self, job: Job, latents: Tensor, steps: int) -> Tensor:
        sigmas = ddim_sigmas(self.model.denoiser.schedule, steps).float()
        empty = self.model.empty_tokens()
        with torch.no_grad():
            return job(lambda x, sigma, _: self.model.denoiser(x, sigma, empty), sigmas).float().cpu()

    def vae_fingerprint(self) -> str:
        return self._fingerprints[0]

    def model_fingerprint(self) -> str:
        return self._fingerprints[1]

    def condition_fingerprint(self) -> str:
        return fingerprint([("condition", self.model.empty_tokens())])

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        autoencoder, unet = (named_weights(m) for m in (self.model.autoencoder, self.model.denoiser.unet))
        return fingerprint(autoencoder), fingerprint([*autoencoder, *unet])
