"""Everything the nodes need from the host: devices, models, progress, gradients."""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from ..faceprivacy_core.errors import InputError, UnsupportedModelError
from ..faceprivacy_core.model_folders import FOLDER_NAME as MODELS_FOLDER
from ..faceprivacy_core.model_folders import SETTINGS_NAME, chosen_folder, model_folders
from ..faceprivacy_core.protocols import FaceDetector, FaceRecognizer

logger = logging.getLogger(__name__)

OUTPUT = " [output]"
"""Ending by which the host looks for a file in the output folder."""


def register_models_folder() -> None:
    """Tell the host where this pack's model files live (its own folder comes first)."""
    folder_paths.add_model_folder_path(MODELS_FOLDER, str(Path(folder_paths.models_dir) / MODELS_FOLDER))
    for folder in model_folders():
        folder_paths.add_model_folder_path(MODELS_FOLDER, str(folder))


def model_dirs() -> list[Path]:
    """Return the folders in which this pack's model files are searched; that of the settings comes first."""
    return chosen_folder(settings_file()) + [Path(path) for path in folder_paths.get_folder_paths(MODELS_FOLDER)]


def settings_file() -> Path:
    """Return the file in which the frontend keeps what was chosen in its settings; there need not be one."""
    return Path(folder_paths.get_user_directory()) / "default" / SETTINGS_NAME


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


class ExactVae:
    """A VAE of the host in fp32 that gradients pass through; latents are in the model's space.

    The host creates weights in inference mode, and such tensors cannot take part in
    autograd. Therefore this is a copy, made outside inference mode and handed to the host's
    memory management.

    Attributes:
        network: The copy.
        patcher: The same as the host's memory management knows it.
        device: Where it computes.
        downscale: Side of a picture divided by that of its latent.

    Raises:
        UnsupportedModelError: The VAE does not belong to the model.
    """

    def __init__(self, model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE) -> None:
        self.latent_format = model.get_model_object("latent_format")
        channels = self.latent_format.latent_channels
        if vae.first_stage_model is None or vae.latent_channels != channels or vae.latent_dim != 2:
            raise UnsupportedModelError(
                f"Expected a VAE with {channels} latent channels for this MODEL, got one with "
                f"{vae.latent_channels}. Connect the VAE that belongs to the model."
            )
        with torch.inference_mode(False):
            self.network = trainable_copy(vae.first_stage_model)
        self.device, self.downscale = vae.device, vae.downscale_ratio
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.network, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
        )

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1]; where the VAE has a distribution, its mode."""
        comfy.model_management.load_models_gpu([self.patcher])
        raw = self.network.encode(images.to(self.device, torch.float32) * 2.0 - 1.0)
        return self.latent_format.process_in(raw).to(images.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images in [0, 1]."""
        return self.decode_open(latents).clamp(0.0, 1.0)

    def decode_open(self, latents: Tensor) -> Tensor:
        """Decode latents to images, about [0, 1], not clipped, because clipped pixels give no gradient."""
        comfy.model_management.load_models_gpu([self.patcher])
        raw = self.latent_format.process_out(latents).to(self.device, torch.float32)
        return ((self.network.decode(raw) + 1.0) / 2.0).to(latents.device)


def trainable_copy(module: nn.Module) -> nn.Module:
    """Copy a module in fp32 with ordinary, frozen tensors; call outside inference mode."""
    return copy.deepcopy(module).float().eval().requires_grad_(False)


def input_file(name: str) -> Path:
    """Return the path of a file in the host's input folder, or in the one its ending "[output]" names.

    Raises:
        InputError: There is no such file, or the name leads out of the folder.
    """
    is_there = folder_paths.exists_annotated_filepath(name)  # False also for what lies outside
    if not is_there or not Path(folder_paths.get_annotated_filepath(name)).is_file():
        plain = name.removesuffix(OUTPUT)
        if plain != name:
            raise InputError(
                f"Expected the name of a file in the output folder, found no {plain!r} there. Run the workflow that writes it "
                "first (Encrypt Faces before Decrypt Faces, Hide Identity before Recover Faces), or upload a file of yours."
            )
        raise InputError(f"Expected the name of a file in the input folder, found no {name!r} there. Upload it first.")
    return Path(folder_paths.get_annotated_filepath(name))


def input_file_digest(name: str | None) -> str | float:
    """Return what a run of a node that reads a file depends on: the file's sha256; never twice the same for a linked name."""
    if name is None:  # linked, so not known yet
        return float("nan")
    return hashlib.sha256(input_file(name).read_bytes()).hexdigest()


def named_files(suffix: str) -> list[str]:
    """Name the files of an ending in the input folder, then those in the output folder, as `input_file` takes them."""
    found = []
    for folder, ending in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), OUTPUT)):
        there = Path(folder)
        names = (path.relative_to(there).as_posix() for path in there.rglob("*" + suffix) if path.is_file())
        found += [name + ending for name in sorted(names)]
    return found


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
