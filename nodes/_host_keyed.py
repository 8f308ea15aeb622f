"""A MODEL, VAE and CONDITIONING of the host in the form that keyed faces need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from torch import Tensor

from ..faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from ..faceprivacy_core.builtin.donors import DonorBank
from ..faceprivacy_core.builtin.model import build_encoder, read_face_model_file
from ..faceprivacy_core.diffusion.schedules import ddim_sigmas
from ..faceprivacy_core.errors import InputError, UnsupportedModelError
from ..faceprivacy_core.fingerprints import fingerprint
from ..faceprivacy_core.keyed.models import Job
from ..faceprivacy_core.keyed.regions import CELL_SIDES
from . import _host
from ._host_fingerprints import (
    flatten,
    hashed_tensors,
    plain_builtin_tensors,
    unrepeatable_parts,
    vae_fingerprint,
    vae_tensors,
)
from ._host_levels import levels_of


@contextlib.contextmanager
def exact_computation() -> Iterator[None]:
    """Leave the host's inference mode, without gradients, and compute in full fp32 (no TF32)."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


class HostKeyedModel:
    """The core's `keyed.models.KeyedModel` on objects of the host.

    Args:
        model: SD1.x, SD2.x, SDXL, SD3, Flux or the built-in face model.
        vae: Its VAE.
        positive: Condition of every step; None where no face is drawn.
        crop_size: Side of the face crops, pixels.
        reversible: The way back repeats every step: compute in fp32 whatever the model's type,
            and refuse what the other side could not repeat. Off where the model only draws covers.

    Raises:
        UnsupportedModelError: Another kind of model or VAE, or one with patches that cannot be repeated.
    """

    def __init__(
        self,
        model: comfy.model_patcher.ModelPatcher,
        vae: comfy.sd.VAE,
        positive: list[Any] | None,
        crop_size: int,
        *,
        reversible: bool,
    ) -> None:
        self.crop_size = crop_size
        self.device = model.load_device
        self._levels = levels_of(model)
        if vae.downscale_ratio not in CELL_SIDES:
            raise UnsupportedModelError(
                f"Expected a VAE that makes pictures 16 or 8 times smaller, got one with {vae.downscale_ratio}. "
                "Connect the VAE that belongs to the model."
            )
        self.factor = vae.downscale_ratio
        if reversible:
            _check_repeatable(model)
            if model.model.get_dtype_inference() != torch.float32:
                model = model.clone()
                model.set_model_compute_dtype(torch.float32)
        self._model, self._positive = model, positive
        self._vae = _host.ExactVae(model, vae)

    @cached_property
    def donors(self) -> DonorBank | None:
        """The bank of the built-in model, whose autoencoder is known by its class; other VAEs have none."""
        if not isinstance(self._vae.network, FaceAutoencoder):
            return None
        return build_encoder(read_face_model_file()).donors

    def encode(self, crops: Tensor) -> Tensor:
        _host.check_interrupted()
        with exact_computation():
            return self._vae.encode(crops).float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        _host.check_interrupted()
        wants_gradient = torch.is_grad_enabled()
        with exact_computation(), torch.set_grad_enabled(wants_gradient):
            return self._vae.decode(latents).float().cpu()

    def run(self, job: Job, latents: Tensor, steps: int) -> Tensor:
        """Run a job as a sampler of the host, so that patches, hooks and memory management apply."""
        positive = self._condition()
        sigmas = ddim_sigmas(self._levels.schedule, steps).float()
        results: list[Tensor] = []

        def sampler_function(model_k, x, _sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202 (host's signature)
            def denoise(x: Tensor, sigma: Tensor | float, _cond: object) -> Tensor:
                return self._levels.denoise(model_k, x, sigma, extra_args)

            results.append(job(denoise, sigmas).float().cpu())
            return x

        nothing = torch.zeros_like(latents)
        with exact_computation():
            with torch.inference_mode():
                comfy.sample.sample_custom(
                    self._model, nothing, 1.0, comfy.samplers.KSAMPLER(sampler_function), self._levels.of_host(sigmas),
                    positive, positive, nothing, disable_pbar=True,
                )  # fmt: skip
            # Taken from inside the sampler, in the model's space; the copy is an ordinary tensor.
            return results[0].clone()

    def vae_fingerprint(self) -> str:
        return self._vae_fingerprint

    def model_fingerprint(self) -> str:
        """Return a hash of all that the map from noise to face depends on, but for the condition."""
        return self._model_fingerprint

    def condition_fingerprint(self) -> str:
        positive = self._condition()
        if len(positive) == 1 and not positive[0][1]:
            return fingerprint([("condition", positive[0][0])])  # as the core does it
        return fingerprint(flatten("condition", positive))

    @cached_property
    def _vae_fingerprint(self) -> str:
        return vae_fingerprint(self._vae.network, self._vae.latent_format)

    @cached_property
    def _model_fingerprint(self) -> str:
        _check_repeatable(self._model)
        plain = plain_builtin_tensors(self._model, self._vae.network)
        if plain is not None:
            return fingerprint([*vae_tensors(self._vae.network), *plain])
        return fingerprint(hashed_tensors(self._model, self._levels.schedule.sigmas, self._vae_fingerprint))

    def _condition(self) -> list[Any]:
        if not self._positive:
            raise InputError(
                "Expected a condition for the MODEL, got none. Connect the output 'empty' of Load Built-in Face Model, or a "
                "CLIP Text Encode node, to 'positive'."
            )
        return self._positive


def _check_repeatable(model: comfy.model_patcher.ModelPatcher) -> None:
    """Refuse a model whose steps depend on more than weights, noise levels and condition."""
    found = unrepeatable_parts(model)
    if found:
        raise UnsupportedModelError(
            "Expected a MODEL without guidance and without patches other than LoRA, since decrypting must repeat every step, "
            f"got one with {', '.join(found)}. Connect the MODEL as its loader gives it, or use mode latent or exact."
        )
