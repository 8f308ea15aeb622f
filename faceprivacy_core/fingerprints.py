"""Short hashes of weights, by which two sides know that they use the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

FINGERPRINT_DIGITS = 32


def named_weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the weights of a network by name, sorted."""
    return sorted(module.state_dict().items())


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors: names, shapes, types and every byte, in the given order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        there = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(there.shape)}|{there.dtype}|".encode())
        digest.update(there.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
