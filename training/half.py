"""Networks that compute in 16 bits while their weights are kept in 32."""

from __future__ import annotations

import copy

import torch
from torch import nn


class HalfTwin:
    """A bfloat16 copy of a module that computes; the module itself keeps weights, gradients and optimiser.

    Quicker than autocast where a network is many small operations on large maps: nothing is converted
    between them.

    Args:
        module: Float32 networks.
        active: Without it, `net` is the module itself.
    """

    def __init__(self, module: nn.Module, active: bool) -> None:
        self._module = module
        self.net = copy.deepcopy(module).to(torch.bfloat16) if active else module
        self.dtype = torch.bfloat16 if active else torch.float32
        self._pairs = list(zip(module.parameters(), self.net.parameters(), strict=True)) if active else []

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the module's weights."""
        for kept, used in self._pairs:
            used.copy_(kept)
            used.requires_grad_(kept.requires_grad)

    def hand_over_gradients(self) -> None:
        """Give the module the gradients of the copy."""
        for kept, used in self._pairs:
            kept.grad = None if used.grad is None else used.grad.float()
            used.grad = None
