"""Everything the nodes need from the host: devices, models, progress, gradients."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from ..faceprivacy_core.diffusion.schedules import NoiseSchedule
from ..faceprivacy_core.errors import UnsupportedModelError
from ..faceprivacy_core.protocols import FaceDetector, FaceRecognizer
from ..faceprivacy_core.weights import default_models_dir

MODELS_FOLDER = "faceprivacy"

logger = logging.getLogger(__name__)


def register_models_folder() -> None:
    """Tell the host where this pack's model files live (its own folder comes first)."""
    folder_paths.add_model_folder_path(MODELS_FOLDER, str(Path(folder_paths.models_dir) / MODELS_FOLDER))
    folder_paths.add_model_folder_path(MODELS_FOLDER, str(default_models_dir()))


def model_dirs() -> list[Path]:
    """Return the folders in which this pack's model files are searched."""
    return [Path(path) for path in folder_paths.get_folder_paths(MODELS_FOLDER)]


def load_insightface_detector(min_confidence: float) -> FaceDetector:
    """Load SCRFD from the host's models/insightface, where the user has placed it."""
    from ..faceprivacy_core.faces.insightface_models import load_scrfd

    return load_scrfd(Path(folder_paths.models_dir) / "insightface", min_confidence=min_confidence)


def load_insightface_recognizer() -> FaceRecognizer:
    """Load ArcFace from the host's models/insightface, where the user has placed it."""
    from ..faceprivacy_core.faces.insightface_models import load_arcface

    recognizer = load_arcface(Path(folder_paths.models_dir) / "insightface", compute_device())
    logger.warning("%s: licence of the weights: %s", recognizer.name, recognizer.licence)
    return recognizer


def compute_device() -> torch.device:
    """Return the device the host computes on."""
    return comfy.model_management.get_torch_device()


def check_interrupted() -> None:
    """Raise the host's own exception when the user pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


class HostProgress:
    """The core's `Progress`, drawn as the node's progress bar; cancels with the host."""

    def __init__(self, total: int) -> None:
        self.bar = comfy.utils.ProgressBar(total)

    def __call__(self, step: int, total: int, preview: Tensor | None = None) -> None:
        check_interrupted()
        self.bar.update_absolute(step, total)


def noise_schedule(model: comfy.model_patcher.ModelPatcher) -> NoiseSchedule:
    """Return the noise levels of a host model.

    Raises:
        UnsupportedModelError: The model is not an eps- or v-prediction image diffusion
            model with 4-channel latents (SD1.x, SD2.x, SDXL, the built-in face model).
    """
    sampling = model.get_model_object("model_sampling")
    latent_format = model.get_model_object("latent_format")
    predicts = isinstance(sampling, comfy.model_sampling.EPS | comfy.model_sampling.V_PREDICTION)
    discrete = isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete)
    if not (predicts and discrete) or latent_format.latent_dimensions != 2:
        name = type(model.model).__name__
        raise UnsupportedModelError(
            "Expected a MODEL that predicts noise or v on a discrete schedule (SD1.x, SD2.x, SDXL or the built-in face "
            f"model), got {name} with {type(sampling).__mro__[1].__name__} sampling. Connect a model of those families."
        )
    return NoiseSchedule(sampling.sigmas.detach().double().cpu())


def differentiable_decoder(model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE) -> Callable[[Tensor], Tensor]:
    """Build a decoder that gradients pass through.

    The host creates weights in inference mode, and such tensors cannot take part in
    autograd. The decoder therefore runs on its own fp32 copy of the VAE, made outside
    inference mode and handed to the host's memory management.

    Returns:
        Function from latents (B, C, h, w) in the model's space to images in [0, 1].

    Raises:
        UnsupportedModelError: The VAE does not belong to the model.
    """
    latent_format = model.get_model_object("latent_format")
    if vae.first_stage_model is None or vae.latent_channels != latent_format.latent_channels or vae.latent_dim != 2:
        raise UnsupportedModelError(
            f"Expected a VAE with {latent_format.latent_channels} latent channels for this MODEL, got one with "
            f"{vae.latent_channels}. Connect the VAE that belongs to the model."
        )
    with torch.inference_mode(False):
        network = trainable_copy(vae.first_stage_model)
    patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )

    def decode(latents: Tensor) -> Tensor:
        comfy.model_management.load_models_gpu([patcher])
        raw = latent_format.process_out(latents).to(vae.device, torch.float32)
        return ((network.decode(raw) + 1.0) / 2.0).clamp(0.0, 1.0).to(latents.device)

    return decode


def trainable_copy(module: nn.Module) -> nn.Module:
    """Copy a module in fp32 with ordinary, frozen tensors; call outside inference mode."""
    return copy.deepcopy(module).float().eval().requires_grad_(False)


def next_sigma(model_options: dict[str, Any], sigma: float) -> float:
    """Return the highest noise level below `sigma` in the running sampler's list.

    Raises:
        UnsupportedModelError: The sampler keeps no list, or its levels rise (inversion).
    """
    sigmas = model_options.get("transformer_options", {}).get("sample_sigmas")
    levels = [] if sigmas is None else sigmas.detach().double().cpu().tolist()
    if len(levels) < 2 or levels[0] <= levels[-1]:
        raise UnsupportedModelError(
            "Expected a sampler that goes from high to low noise on a fixed list of levels, such as KSampler or "
            "SamplerCustom with euler. Use the MODEL without guidance for inversion."
        )
    return max((level for level in levels if level < sigma * (1.0 - 1e-5)), default=0.0)
