"""What the multi-scale inversion sees of a picture: a CLIP_VISION of the host, or the built-in encoder."""

from __future__ import annotations

from typing import Any

import comfy.clip_model
import comfy.model_management
import torch
from torch import Tensor
from torch.nn import functional as F

from ..faceprivacy_core.builtin.model import FaceEncoder, build_encoder, read_face_model_file
from ..faceprivacy_core.embeddings.vision import autoencoder_features
from ..faceprivacy_core.errors import UnsupportedModelError

DEPTHS = (3, 7, 11, 15, 24)
"""Blocks whose output is read, of 24; the released code's choice for ViT-L. Other depths in proportion."""
BLOCKS = 24


def clip_vision_features(clip_vision: Any, image: Tensor) -> list[Tensor]:
    """Return hidden states of a vision transformer at five depths.

    Args:
        clip_vision: CLIP_VISION of the host, of the CLIP or SigLIP kind.
        image: Host IMAGE (N, H, W, 3) in [0, 1]; the host's own preprocessing follows.

    Returns:
        Five of (N, T, C) float32, shallow to deep, on the CPU.

    Raises:
        UnsupportedModelError: A network that does not show its layers.
    """
    network = getattr(clip_vision.model, "vision_model", None)
    if network is None or clip_vision.model_type == "siglip2_vision_model":
        raise UnsupportedModelError(
            f"Expected a CLIP_VISION of the CLIP or SigLIP kind, got {clip_vision.model_type}. Load another one, or "
            "disconnect it to use the built-in encoder."
        )
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    pixels = comfy.clip_model.clip_preprocess(
        image.to(clip_vision.load_device), size=clip_vision.image_size, mean=clip_vision.image_mean, std=clip_vision.image_std
    )
    with torch.no_grad():
        _, states, _ = network(pixels.float(), intermediate_output="all")
    num_blocks = states.shape[1]
    indices = [max(1, round(depth * num_blocks / BLOCKS)) - 1 for depth in DEPTHS]
    with torch.inference_mode(False):
        return [states[:, index].float().cpu().clone() for index in indices]


def builtin_features(images: Tensor, encoder: FaceEncoder | None) -> list[Tensor]:
    """Return features of the built-in autoencoder, five of (N, T, C), for images (N, 3, S, S) in [0, 1]."""
    with torch.inference_mode(False), torch.no_grad():
        encoder = encoder or build_encoder(read_face_model_file())
        size = (encoder.resolution, encoder.resolution)
        small = F.interpolate(images.clone(), size=size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        return autoencoder_features(encoder.autoencoder, small)
