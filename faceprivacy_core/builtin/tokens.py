"""Image tokens: what the built-in model is told about a face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TokenConfig:
    """Shape of the token head, stored in the header of the weights file.

    Attributes:
        latent_channels: Channels of the latents it reads.
        channels: Width of the features it makes of them.
        grids: Sides of the pooling grids, coarse to fine.
        width: Width of a token, as the UNet's cross-attention wants it.
    """

    latent_channels: int = 32
    channels: int = 256
    grids: tuple[int, ...] = (1, 2, 4)
    width: int = 768

    @property
    def count(self) -> int:
        return sum(grid * grid for grid in self.grids)


class TokenHead(nn.Module):
    """Latents (B, C, h, w) to conditioning tokens (B, count, width).

    `null` (count, width) is the empty condition the model was trained with.
    """

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.config = config
        self.look = nn.Sequential(
            nn.Conv2d(config.latent_channels, config.channels, 3, padding=1), nn.SiLU(),
            nn.Conv2d(config.channels, config.channels, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.p = nn.Linear(config.channels, config.width)
        self.n = nn.LayerNorm(config.width)
        self.pos, self.null = (nn.Parameter(torch.empty(config.count, config.width)) for _ in range(2))
        for tokens in (self.pos, self.null):
            nn.init.normal_(tokens, std=0.02)

    def forward(self, latents: Tensor) -> Tensor:
        return self.n(self.p(pooled(self.look(latents), self.config.grids))) + self.pos


def pooled(features: Tensor, grids: tuple[int, ...]) -> Tensor:
    """Average features (B, C, h, w) over coarse to fine grids, row-major: (B, sum g^2, C)."""
    return torch.cat([F.adaptive_avg_pool2d(features, grid).flatten(2) for grid in grids], dim=2).transpose(1, 2)
