"""Pictures as 8-bit pixels and as tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255.0


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W) in [0, 1] to (H, W, 3) uint8, rounded."""
    return (image[0] * 255.0).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def without_colours(values: Tensor) -> Tensor:
    """Take the colour out of values (..., 3, H, W): three equal channels of their brightness (ITU-R BT.601)."""
    red, green, blue = values.unbind(dim=-3)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([brightness] * 3, dim=-3)
