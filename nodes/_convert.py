"""The host's layouts to the core's and back. Nothing else in the pack permutes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.pixels import to_pixels, to_tensor


def image_to_core(image: Tensor) -> Tensor:
    """Host IMAGE (B, H, W, 3) in [0, 1] to (B, 3, H, W) float32 on the CPU.

    Raises:
        InputError: Gray, with alpha, or not a batch of pictures.
    """
    if image.ndim != 4 or image.shape[0] == 0:
        raise InputError(f"Expected a batch of images (B, H, W, 3), got shape {tuple(image.shape)}.")
    if image.shape[-1] != 3:
        kind = {1: "a grayscale picture", 2: "a grayscale picture with alpha", 4: "a picture with an alpha channel"}
        came = kind.get(image.shape[-1], f"{image.shape[-1]} channels")
        raise InputError(f"Expected an RGB image with 3 channels, got {came}. Convert it to RGB first.")
    if not bool(torch.isfinite(image).all()):
        raise InputError("Expected image values in [0, 1], got NaN or infinity.")
    return image.detach().to("cpu", torch.float32).permute(0, 3, 1, 2).contiguous()


def core_to_image(images: Tensor) -> Tensor:
    """(B, 3, H, W) to host IMAGE (B, H, W, 3)."""
    return images.permute(0, 2, 3, 1).contiguous()


def mask_to_core(mask: Tensor, batch_size: int) -> Tensor:
    """Host MASK (H, W) or (B, H, W) to (B, 1, H, W); a single mask serves every image."""
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or mask.shape[0] not in (1, batch_size):
        raise InputError(f"Expected one mask or {batch_size}, got shape {tuple(mask.shape)}.")
    return mask.detach().to("cpu", torch.float32).clamp(0.0, 1.0).expand(batch_size, -1, -1)[:, None]


def core_to_mask(mask: Tensor) -> Tensor:
    """(B, 1, H, W) to host MASK (B, H, W)."""
    return mask[:, 0].contiguous()


def image_to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """One core image (3, H, W) in [0, 1] to (H, W, 3) uint8, rounded."""
    return to_pixels(image[None])


def uint8_to_image(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 to one core image (3, H, W) in [0, 1]."""
    return to_tensor(pixels)[0]


def stack_uint8(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """(H, W, 3) uint8 pictures of one size to core images (B, 3, H, W)."""
    return torch.stack([uint8_to_image(picture) for picture in pictures])


def stack_padded(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """Pictures of one width and several heights to core images, padded with white below."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in pictures]
    return stack_uint8(padded)
