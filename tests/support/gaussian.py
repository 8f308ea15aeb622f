"""Diffusion with a known answer: Gaussian data and the ideal denoiser."""

from __future__ import annotations

import torch
from torch import Tensor


class GaussianDenoiser:
    """Ideal denoiser of data N(mean, std^2): D(x, s) = (std^2 x + s^2 mean) / (std^2 + s^2)."""

    def __init__(self, mean: float = 0.3, std: float = 0.5) -> None:
        self.mean, self.std = mean, std
        self.evaluations = 0

    def __call__(self, x: Tensor, sigma: float, cond: object) -> Tensor:
        self.evaluations += 1
        variance = self.std**2
        return (variance * x + sigma**2 * self.mean) / (variance + sigma**2)

    def exact(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Solve the probability-flow ODE in closed form."""
        ratio = ((self.std**2 + sigma_end**2) / (self.std**2 + sigma**2)) ** 0.5
        return self.mean + (x - self.mean) * ratio


class MixtureDenoiser:
    """Ideal denoiser of a mixture of Gaussians in R^d; as curved as a real model."""

    def __init__(self, dim: int = 64, components: int = 6, variance: float = 0.15, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.means = 0.8 * torch.randn(components, dim, generator=generator, dtype=torch.float64)
        self.variance = variance
        self.shape = (1, 8, dim // 8)

    def sample(self, count: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        return (self.means[chosen] + self.variance**0.5 * noise).view(count, *self.shape)

    def __call__(self, x: Tensor, sigma: float, cond: object) -> Tensor:
        flat = x.flatten(1)
        total = self.variance + sigma**2
        weights = torch.softmax(-((flat[:, None] - self.means) ** 2).sum(2) / (2 * total), dim=1)
        mean = weights @ self.means
        return ((self.variance * flat + sigma**2 * mean) / total).view_as(x)
