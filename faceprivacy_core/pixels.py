"""Pictures as 8-bit pixels and as tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BAND_PIXELS = 2**22
"""Pixels that are converted at a time: large pictures take no more memory than their result."""


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) in [0, 1]."""
    return as_values(as_bytes(pixels))


def as_bytes(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) uint8, in the same memory where it can be written."""
    writable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of the others
    return torch.from_numpy(writable).permute(2, 0, 1)[None]


def as_values(images: Tensor) -> Tensor:
    """Turn bytes (uint8) into values in [0, 1]; values stay as they are."""
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images


def as_in(images: Tensor, values: Tensor) -> Tensor:
    """Turn values in [0, 1] into what pictures hold: values, or bytes, rounded."""
    return (values * 255.0).round().to(torch.uint8) if images.dtype == torch.uint8 else values


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W), bytes or values in [0, 1], to (H, W, 3) uint8, rounded."""
    if image.dtype == torch.uint8:
        return np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    _, channels, height, width = image.shape
    pixels = np.empty((height, width, channels), np.uint8)
    rows = max(1, BAND_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        band = image[0, :, top : top + rows]
        pixels[top : top + rows] = (band * 255.0).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels


def without_colours(values: Tensor) -> Tensor:
    """Take the colour out of values (..., 3, H, W): three equal channels of their brightness (ITU-R BT.601)."""
    red, green, blue = values.unbind(dim=-3)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([brightness] * 3, dim=-3)
