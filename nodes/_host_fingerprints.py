"""What identifies a MODEL, VAE and CLIP of the host, by every weight and patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import comfy.latent_formats
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch
from torch import Tensor, nn

from ..faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from ..faceprivacy_core.embeddings.inversion import ModelIdentity
from ..faceprivacy_core.errors import UnsupportedModelError
from ..faceprivacy_core.fingerprints import fingerprint, named_weights
from ._host_levels import levels_of

UNET = "diffusion_model."
HARMLESS_PATCHES = {"model_sampling", "latent_format", "manual_cast_dtype"}
"""Object patches that are part of the fingerprint, or that the pack sets itself."""
ATTACHMENTS = {
    "weight_wrapper_patches", "injections", "wrappers", "callbacks", "hook_patches", "forced_hooks", "additional_models",
}  # fmt: skip
"""Attributes of the host's ModelPatcher through which other nodes change what a model computes."""

NamedTensors = list[tuple[str, Tensor]]
_weight_hashes: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def model_identity(
    model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE, clip: comfy.sd.CLIP | None = None
) -> ModelIdentity:
    """Return what an inversion remembers of the model it was made with.

    The built-in model has the fingerprints that the core gives it, and no text encoder. A MODEL with guidance or patches
    that cannot be repeated has no fingerprint; its inversions can be used, but not saved.

    Raises:
        UnsupportedModelError: Another kind of model, or one with patches of unknown content.
    """
    network, latent_format = vae.first_stage_model, model.get_model_object("latent_format")
    levels = levels_of(model).schedule.sigmas
    unet = ""
    if not unrepeatable_parts(model):
        plain = plain_builtin_tensors(model, network)
        unet = fingerprint(hashed_tensors(model, levels) if plain is None else plain)
    text_encoder = "" if clip is None or is_builtin(network) else _clip_fingerprint(clip)
    name = "built-in face model" if is_builtin(network) else type(model.model.model_config).__name__
    return ModelIdentity(name, unet, vae_fingerprint(network, latent_format), text_encoder)


def is_builtin(network: nn.Module) -> bool:
    """Say whether the network of a VAE is that of the built-in face model."""
    return isinstance(network, FaceAutoencoder)


def vae_tensors(network: nn.Module) -> NamedTensors:
    """List the weights of a VAE: exactly for the built-in one, else so that precision does not matter."""
    convert = _full if is_builtin(network) else portable
    return [(name, convert(weight)) for name, weight in named_weights(network)]


def vae_fingerprint(network: nn.Module, latent_format: comfy.latent_formats.LatentFormat) -> str:
    """Hash a VAE and how the model scales its latents."""
    tensors = vae_tensors(network)
    probe = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, latent_format.latent_channels, -1, -1)
    scaled = latent_format.process_in(probe)
    if not torch.equal(scaled, probe):
        tensors.append(("latent format", scaled))
    return fingerprint(tensors)


def plain_builtin_tensors(model: comfy.model_patcher.ModelPatcher, network: nn.Module) -> NamedTensors | None:
    """List the weights of the built-in denoiser as the core does; None for any other, or a patched one."""
    changed = model.object_patches.keys() & (HARMLESS_PATCHES - {"manual_cast_dtype"})
    if not is_builtin(network) or model.patches or changed:
        return None
    return _diffusers_names(model, model.get_key_patches(UNET))


def hashed_tensors(model: comfy.model_patcher.ModelPatcher, levels: Tensor, *before: str) -> NamedTensors:
    """List what the map from noise to picture depends on, but for the condition.

    Args:
        model: Weights are hashed once for all its clones.
        levels: Its noise levels.
        before: Further hashes that belong to the model.
    """
    weights = model.get_key_patches(UNET)
    patches = [item for name in sorted(weights) for item in flatten(name, list(weights[name][1:]))]
    sampling = model.get_model_object("model_sampling")
    kind = " ".join(parent.__name__ for parent in type(sampling).__mro__[1:])  # what is predicted, on which levels
    return [(" ".join([*before, _weights_hash(model.model, weights), kind]), levels), *patches]


def unrepeatable_parts(model: comfy.model_patcher.ModelPatcher) -> list[str]:
    """Name what makes a model's steps depend on more than weights, noise levels and condition."""
    attached = {name: value for name, value in vars(model).items() if name in ATTACHMENTS}
    return _filled(model.model_options) + _filled(attached) + sorted(model.object_patches.keys() - HARMLESS_PATCHES)


def flatten(name: str, value: Any) -> NamedTensors:
    """List all tensors in a nest of containers; numbers and texts go into the names.

    Raises:
        UnsupportedModelError: There is something else in it.
    """
    if isinstance(value, Tensor):
        return [(name, value)]
    if value is None or isinstance(value, bool | int | float | str):
        return [(f"{name}={value!r}", torch.empty(0))]
    if isinstance(value, Mapping):
        return [item for key in sorted(value) for item in flatten(f"{name}.{key}", value[key])]
    if isinstance(value, list | tuple):
        return [item for index, entry in enumerate(value) for item in flatten(f"{name}[{index} of {len(value)}]", entry)]
    if hasattr(value, "weights"):  # a LoRA of any kind
        return flatten(f"{name}:{type(value).__name__}", value.weights)
    raise UnsupportedModelError(
        f"Expected a MODEL and CONDITIONING that decrypting can repeat, got one with {type(value).__name__}. Use a plain "
        "prompt without ControlNet, or mode latent or exact."
    )


def portable(weight: Tensor) -> Tensor:
    """Round a weight to what stays the same on every machine: hosts load one file as fp32, fp16 or bf16."""
    return weight.to(torch.bfloat16)


def _clip_fingerprint(clip: comfy.sd.CLIP) -> str:
    weights = clip.patcher.get_key_patches()
    patches = [item for name in sorted(weights) for item in flatten(name, list(weights[name][1:]))]
    stop = f"{_weights_hash(clip.cond_stage_model, weights)} layer {clip.layer_idx}"
    return fingerprint([(stop, torch.empty(0)), *patches])


def _weights_hash(module: nn.Module, weights: Mapping[str, Any]) -> str:
    if module not in _weight_hashes:
        _weight_hashes[module] = fingerprint((name, portable(weights[name][0][0])) for name in sorted(weights))
    return _weight_hashes[module]


def _full(weight: Tensor) -> Tensor:
    return weight.float() if weight.is_floating_point() else weight


def _filled(entries: Mapping[str, Any]) -> list[str]:
    """Return the names under which there is something, at any depth."""

    def holds(value: Any) -> bool:
        return any(map(holds, value.values())) if isinstance(value, Mapping) else bool(value)

    return sorted(name for name, value in entries.items() if holds(value))


def _diffusers_names(model: comfy.model_patcher.ModelPatcher, weights: Mapping[str, Any]) -> NamedTensors:
    """Return the weights under the names of diffusers, as the core knows them."""
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    return sorted((ours, weights[UNET + theirs][0][0].float()) for ours, theirs in names.items() if UNET + theirs in weights)
