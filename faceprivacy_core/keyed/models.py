"""A latent diffusion model as keyed faces need it: one fixed condition, and tensors that cross on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ..builtin.donors import DonorBank
from ..diffusion.model import Capability, Condition, LatentModel, Part, fingerprint_of, require
from ..diffusion.schedules import ddim_sigmas
from ..fingerprints import fingerprint
from ..protocols import Denoiser

Job = Callable[[Denoiser, Tensor], Tensor]
"""Receives a denoiser (which ignores its conditioning argument) and noise levels, returns a latent."""


class KeyedModel:
    """A model under one condition. Latents and pictures cross this border in float32 on the CPU.

    Args:
        model: Any.
        condition: Of every step; None takes the one under which the model draws any face.

    Attributes:
        crop_size: Side of the face crops in pixels, a multiple of 8 and of `factor`.
        factor: Side of a crop divided by the side of its latent, see `regions.CELL_SIDES`.
        device: Where jobs compute; their latents are there.
    """

    def __init__(self, model: LatentModel, condition: Condition | None = None) -> None:
        self.model, self.condition = model, model.face if condition is None else condition
        self.crop_size, self.factor, self.device = model.resolution, model.factor, model.device

    @property
    def donors(self) -> DonorBank | None:
        """Faces of nobody, from which covers may begin; None for a model that brings none."""
        return self.model.donors if Capability.DONORS in self.model.capabilities else None

    def encode(self, crops: Tensor) -> Tensor:
        """Encode (N, 3, S, S) in [0, 1] to latents (N, C, S / factor, S / factor), the mode of the posterior."""
        with torch.no_grad():
            return self.model.encode(crops.to(self.device)).float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to (N, 3, S, S) in [0, 1], with gradients if the latents ask for them."""
        return self.model.decode(latents.to(self.device)).clamp(0.0, 1.0).float().cpu()

    def run(self, job: Job, latents: Tensor, steps: int) -> Tensor:
        """Run a job with the model's denoiser.

        Args:
            job: Called once, with falling noise levels of `steps` steps over the whole schedule.
            latents: (N, C, h, w), for their shape.
            steps: Sampling steps.

        Returns:
            The job's latent.
        """
        sigmas = ddim_sigmas(self.model.schedule, steps).float()
        with torch.no_grad():
            return self.model.run(
                lambda denoise: job(lambda x, sigma, _: denoise(x, sigma, self.condition), sigmas).float().cpu(), latents.shape
            )

    def vae_fingerprint(self) -> str:
        """Return 32 hexadecimal digits that change with any weight of the autoencoder."""
        return self._vae

    def model_fingerprint(self) -> str:
        """Return the same for denoiser and autoencoder together.

        Raises:
            UnsupportedModelError: The model computes in less than float32, so that no step can be repeated backwards.
        """
        require(self.model, Capability.EXACT, "modes image and signflip")
        return self._whole

    def condition_fingerprint(self) -> str:
        """Return the same for the condition; where a text encoder makes it, of its weights, which are alike on every device."""
        return fingerprint_of(self.model, Part.TEXT_ENCODER) or fingerprint([("condition", self.condition.tokens)])

    @cached_property
    def _vae(self) -> str:
        return fingerprint_of(self.model, Part.VAE)

    @cached_property
    def _whole(self) -> str:
        return fingerprint_of(self.model, Part.VAE, Part.UNET)
