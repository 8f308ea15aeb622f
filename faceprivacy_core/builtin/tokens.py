"""Image tokens: what the built-in model is told about a face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .autoencoder import pooled_tokens


@dataclass(frozen=True)
class TokenConfig:
    """Shape of the token head, stored in the header of the weights file.

    Attributes:
        feature_channels: Channels of the autoencoder features it reads.
        grids: Sides of the pooling grids, coarse to fine.
        width: Width of a token, as the UNet's cross-attention wants it.
    """

    feature_channels: int = 192
    grids: tuple[int, ...] = (1, 2, 4)
    width: int = 768

    @property
    def count(self) -> int:
        return sum(grid * grid for grid in self.grids)


class TokenHead(nn.Module):
    """Pooled autoencoder features to conditioning tokens (B, count, width).

    `null` (count, width) is the empty condition the model was trained with.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.config = config
        self.p = nn.Linear(config.feature_channels, config.width)
        self.n = nn.LayerNorm(config.width)
        self.pos = nn.Parameter(torch.zeros(config.count, config.width))
        self.null = nn.Parameter(torch.zeros(config.count, config.width))
        self.register_buffer("feature_mean", torch.zeros(config.feature_channels))
        self.register_buffer("feature_std", torch.ones(config.feature_channels))

    def forward(self, features: Tensor) -> Tensor:
        pooled = pooled_tokens(features, self.config.grids)
        return self.n(self.p((pooled - self.feature_mean) / self.feature_std) + self.pos)
