"""Principal components of the generator's features at 16x16: the space the latents begin as."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .generator import Generator

BLOCK = 4
"""The last block of the synthesis at 16x16."""
FACES = 1000
CHUNK = 20


@dataclass(frozen=True, eq=False)
class FeatureBasis:
    """A linear map between features (B, 512, 16, 16) and raw latents (B, C, 16, 16).

    Attributes:
        mean: (512,) of the features.
        components: (512, C) principal components times one scale, which gives the latents a mean variance of 1.
    """

    mean: Tensor
    components: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Features to raw latents."""
        inverse = self.components / self.components.square().sum(0)
        return torch.einsum("bfhw,fc->bchw", features - self.mean.view(1, -1, 1, 1), inverse)


@torch.no_grad()
def find_basis(generator: Generator, channels: int, first_seed: int, truncation: tuple[float, float]) -> FeatureBasis:
    """Find the components of FACES faces of consecutive seeds."""
    total, outer, count = 0.0, 0.0, 0
    for start in range(0, FACES, CHUNK):
        styles = generator.draw_styles(range(first_seed + start, first_seed + start + CHUNK), truncation)
        vectors = generator.features(styles, BLOCK).permute(0, 2, 3, 1).flatten(0, 2).double()
        total, outer, count = total + vectors.sum(0), outer + vectors.T @ vectors, count + len(vectors)
    mean = total / count
    variances, directions = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    kept = variances.flip(0)[:channels]
    return FeatureBasis(mean.float(), (directions.flip(1)[:, :channels] * kept.mean().sqrt()).float())
