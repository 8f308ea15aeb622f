"""A MODEL, VAE and CONDITIONING of the host in the form that keyed faces need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
from torch import Tensor, nn

from ..faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from ..faceprivacy_core.diffusion.schedules import ddim_sigmas
from ..faceprivacy_core.errors import InputError, UnsupportedModelError
from ..faceprivacy_core.fingerprints import fingerprint, named_weights
from ..faceprivacy_core.keyed.models import Job
from . import _host

UNET = "diffusion_model."
VAE_FACTOR = 8
HARMLESS_PATCHES = {"model_sampling", "latent_format", "manual_cast_dtype"}
"""Object patches that are part of the fingerprint, or that this module sets itself."""
ATTACHMENTS = {
    "weight_wrapper_patches", "injections", "wrappers", "callbacks", "hook_patches", "forced_hooks", "additional_models",
}  # fmt: skip
"""Attributes of the host's ModelPatcher through which other nodes change what a model computes."""

NamedTensors = list[tuple[str, Tensor]]
_weight_hashes: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


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
        model: Predicts noise or v; SD1.x, SD2.x, SDXL or the built-in face model.
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
        self._schedule = _host.noise_schedule(model)
        if vae.downscale_ratio != VAE_FACTOR:
            raise UnsupportedModelError(
                f"Expected a VAE that makes pictures {VAE_FACTOR} times smaller, got one with {vae.downscale_ratio}. "
                "Connect the VAE that belongs to the model."
            )
        if reversible:
            _check_repeatable(model)
            if model.model.get_dtype_inference() != torch.float32:
                model = model.clone()
                model.set_model_compute_dtype(torch.float32)
        self._model, self._positive = model, positive
        self._vae = _host.ExactVae(model, vae)
        self._source = vae.first_stage_model

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
        sigmas = ddim_sigmas(self._schedule, steps).float()
        results: list[Tensor] = []

        def sampler_function(model_k, x, _sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202 (host's signature)
            def denoise(x: Tensor, sigma: Tensor | float, _cond: object) -> Tensor:
                _host.check_interrupted()
                levels = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
                return model_k(x, levels, **extra_args)

            results.append(job(denoise, sigmas).float().cpu())
            return x

        nothing = torch.zeros_like(latents)
        with exact_computation():
            with torch.inference_mode():
                comfy.sample.sample_custom(
                    self._model, nothing, 1.0, comfy.samplers.KSAMPLER(sampler_function), sigmas, positive, positive,
                    nothing, disable_pbar=True,
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
        return fingerprint(_flatten("condition", positive))

    @cached_property
    def _vae_fingerprint(self) -> str:
        tensors = self._vae_tensors()
        probe = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, self._vae.latent_format.latent_channels, -1, -1)
        scaled = self._vae.latent_format.process_in(probe)
        if not torch.equal(scaled, probe):
            tensors.append(("latent format", scaled))
        return fingerprint(tensors)

    @cached_property
    def _model_fingerprint(self) -> str:
        _check_repeatable(self._model)
        weights = self._model.get_key_patches(UNET)
        patches = [item for name in sorted(weights) for item in _flatten(name, list(weights[name][1:]))]
        changed = self._model.object_patches.keys() & (HARMLESS_PATCHES - {"manual_cast_dtype"})
        if self._is_builtin and not self._model.patches and not changed:
            return fingerprint([*self._vae_tensors(), *_diffusers_names(self._model, weights)])
        if self._model.model not in _weight_hashes:
            _weight_hashes[self._model.model] = fingerprint((name, _portable(weights[name][0][0])) for name in sorted(weights))
        sampling = self._model.get_model_object("model_sampling")
        kind = " ".join(parent.__name__ for parent in type(sampling).__mro__[1:])  # what is predicted, on which levels
        hashes = f"{self._vae_fingerprint} {_weight_hashes[self._model.model]} {kind}"
        return fingerprint([(hashes, self._schedule.sigmas), *patches])

    @property
    def _is_builtin(self) -> bool:
        return isinstance(self._source, FaceAutoencoder)

    def _vae_tensors(self) -> NamedTensors:
        weights = named_weights(self._vae.network)
        return weights if self._is_builtin else [(name, _portable(weight)) for name, weight in weights]

    def _condition(self) -> list[Any]:
        if not self._positive:
            raise InputError(
                "Expected a condition for the MODEL, got none. Connect the output 'empty' of Load Built-in Face Model, or a "
                "CLIP Text Encode node, to 'positive'."
            )
        return self._positive


def _check_repeatable(model: comfy.model_patcher.ModelPatcher) -> None:
    """Refuse a model whose steps depend on more than weights, noise levels and condition."""
    attached = {name: value for name, value in vars(model).items() if name in ATTACHMENTS}
    found = _filled(model.model_options) + _filled(attached) + sorted(model.object_patches.keys() - HARMLESS_PATCHES)
    if found:
        raise UnsupportedModelError(
            "Expected a MODEL without guidance and without patches other than LoRA, since decrypting must repeat every step, "
            f"got one with {', '.join(found)}. Connect the MODEL as its loader gives it, or use mode latent or exact."
        )


def _filled(entries: Mapping[str, Any]) -> list[str]:
    """Return the names under which there is something, at any depth."""

    def holds(value: Any) -> bool:
        return any(map(holds, value.values())) if isinstance(value, Mapping) else bool(value)

    return sorted(name for name, value in entries.items() if holds(value))


def _flatten(name: str, value: Any) -> NamedTensors:
    """List all tensors in a nest of containers; numbers and texts go into the names."""
    if isinstance(value, Tensor):
        return [(name, value)]
    if value is None or isinstance(value, bool | int | float | str):
        return [(f"{name}={value!r}", torch.empty(0))]
    if isinstance(value, Mapping):
        return [item for key in sorted(value) for item in _flatten(f"{name}.{key}", value[key])]
    if isinstance(value, list | tuple):
        return [item for index, entry in enumerate(value) for item in _flatten(f"{name}[{index} of {len(value)}]", entry)]
    if hasattr(value, "weights"):  # a LoRA of any kind
        return _flatten(f"{name}:{type(value).__name__}", value.weights)
    raise UnsupportedModelError(
        f"Expected a MODEL and CONDITIONING that decrypting can repeat, got one with {type(value).__name__}. Use a plain "
        "prompt without ControlNet, or mode latent or exact."
    )


def _portable(weight: Tensor) -> Tensor:
    """Round a weight to what stays the same on every machine: hosts load one file as fp32, fp16 or bf16."""
    return weight.to(torch.bfloat16)


def _diffusers_names(model: comfy.model_patcher.ModelPatcher, weights: Mapping[str, Any]) -> NamedTensors:
    """Return the weights under the names of diffusers, as the core knows them."""
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    return sorted((ours, weights[UNET + theirs][0][0].float()) for ours, theirs in names.items() if UNET + theirs in weights)
