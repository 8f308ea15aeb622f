"""Exponential moving average of weights, and the course of the learning rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of a module's parameters over the last steps.

    Early on the decay is smaller, so that the random start is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._live = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self._mean = [parameter.detach().clone() for parameter in self._live]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._mean, [parameter.detach() for parameter in self._live], 1.0 - decay)

    def state(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(zip(self._names, self._mean, strict=True))

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for mean, name in zip(self._mean, self._names, strict=True):
            mean.copy_(state[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and weights; a second call undoes it."""
        for mean, parameter in zip(self._mean, self._live, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(kept)


def learning_rate_factor(step: int, steps: int, warm_up: int) -> float:
    """Rise over `warm_up` steps, stay, and fall to a hundredth over the last fifth."""
    rise = min(1.0, (step + 1) / max(1, warm_up))
    fall = min(1.0, max(0.01, (steps - step) / max(1.0, 0.2 * steps)))
    return rise * fall


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
