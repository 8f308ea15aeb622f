"""Reads matrices that a file keeps in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"


def dequantise(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a file as float32: NAME of whole numbers (O, ...) times NAME.scale (O,) where there is one."""
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        weight = tensor.to(torch.float32, copy=True)
        weights[name] = weight if scale is None else weight * scale.float().view(-1, *[1] * (weight.ndim - 1))
    return weights
