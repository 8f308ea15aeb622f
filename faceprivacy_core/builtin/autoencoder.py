"""A small convolutional autoencoder with a pixel-unshuffle stem (factor 8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_BOUND = 3.0


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the autoencoder, stored in the header of the weights file.

    Attributes:
        patch: Pixel-(un)shuffle factor of the stem.
        channels: Width at the stem's and at the latent's resolution.
        encoder_blocks: Residual blocks at each of the two resolutions.
        decoder_blocks: Residual blocks at the latent's, then at the stem's resolution.
        latent_channels: Channels of the latent.
    """

    patch: int = 4
    channels: tuple[int, int] = (96, 192)
    encoder_blocks: tuple[int, int] = (1, 2)
    decoder_blocks: tuple[int, int] = (3, 2)
    latent_channels: int = 4

    @property
    def downscale(self) -> int:
        return 2 * self.patch


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions, each behind GroupNorm(8) and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.b = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(x)


class FaceAutoencoder(nn.Module):
    """Images (B, 3, S, S) in [-1, 1] to latents (B, C, S/8, S/8) of unit variance and back.

    `latent_mean` and `latent_std` (C,) normalise the encoder's raw output.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        outer, inner = config.channels
        pixels = 3 * config.patch**2
        self.enc = nn.Sequential(
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(pixels, outer, 3, padding=1),
            *(ResidualBlock(outer) for _ in range(config.encoder_blocks[0])),
            nn.Conv2d(outer, inner, 3, stride=2, padding=1),
            *(ResidualBlock(inner) for _ in range(config.encoder_blocks[1])),
            nn.GroupNorm(8, inner),
            nn.SiLU(),
            nn.Conv2d(inner, config.latent_channels, 3, padding=1),
        )
        self.dec = nn.Sequential(
            nn.Conv2d(config.latent_channels, inner, 3, padding=1),
            *(ResidualBlock(inner) for _ in range(config.decoder_blocks[0])),
            nn.Conv2d(inner, outer * 4, 3, padding=1),
            nn.PixelShuffle(2),
            *(ResidualBlock(outer) for _ in range(config.decoder_blocks[1])),
            nn.GroupNorm(8, outer),
            nn.SiLU(),
            nn.Conv2d(outer, pixels, 3, padding=1),
            nn.PixelShuffle(config.patch),
        )
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    def features(self, images: Tensor) -> Tensor:
        """Return the encoder's features (B, inner, S/8, S/8) before the latent head."""
        return self.enc[:-3](images)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images in [-1, 1] to normalised latents."""
        raw = self.enc(images)
        bounded = LATENT_BOUND * torch.tanh(raw / LATENT_BOUND)
        return (bounded - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents to images, about [-1, 1], not clipped."""
        raw = latents * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean)
        return self.dec(raw)

    @staticmethod
    def _per_channel(values: Tensor) -> Tensor:
        return values.view(1, -1, 1, 1)


def pooled_tokens(features: Tensor, grids: tuple[int, ...]) -> Tensor:
    """Average features (B, C, h, w) over coarse to fine grids, row-major: (B, sum g^2, C)."""
    pooled = [F.adaptive_avg_pool2d(features, grid).flatten(2) for grid in grids]
    return torch.cat(pooled, dim=2).transpose(1, 2)
