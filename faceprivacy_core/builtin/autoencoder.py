"""The built-in autoencoder: crops of 256 px to latents of 16x16 and back (factor 16).

The decoder is made of the blocks of a face generator above 16x16, so whatever latent it gets
it draws something like a face; the encoder is a plain convolutional network.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .styled import SLOPE, STYLE_WIDTH, StyledBlock


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the autoencoder, stored in the header of the weights file.

    Attributes:
        side: Side of the pictures, pixels.
        latent_channels: Channels of the latent.
        patch: Pixel-unshuffle factor of the encoder's stem.
        channels: Width of the encoder at the stem's side and after each halving.
        encoder_blocks: Residual blocks at each of these sides.
        style_channels: Widths of the two convolutions and the hidden layer that read the style off a latent.
        decoder_channels: Channels of the features at the latent's side, then those that leave each styled block, of
            which the first, third, ... raise the side.
        head_channels: Width of the layer before the pixels.
    """

    side: int = 256
    latent_channels: int = 32
    patch: int = 4
    channels: tuple[int, ...] = (96, 160, 256)
    encoder_blocks: tuple[int, ...] = (2, 2, 3)
    style_channels: tuple[int, int, int] = (96, 160, 512)
    decoder_channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 256)
    head_channels: int = 96

    @property
    def downscale(self) -> int:
        return self.patch * 2 ** (len(self.channels) - 1)

    @property
    def latent_side(self) -> int:
        return self.side // self.downscale


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


class Encoder(nn.Sequential):
    """Images (B, 3, S, S) in [-1, 1] to raw latents (B, C, S/16, S/16)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        widths = config.channels
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(3 * config.patch**2, widths[0], 3, padding=1),
        ]
        for level, (width, blocks) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            if level:
                layers.append(nn.Conv2d(widths[level - 1], width, 3, stride=2, padding=1))
            layers += [ResidualBlock(width) for _ in range(blocks)]
        layers += [nn.GroupNorm(8, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)]
        super().__init__(*layers)


class StyleReader(nn.Sequential):
    """Raw latents (B, C, h, w) to the style (B, 512) that the decoder's channels are scaled by."""

    def __init__(self, config: AutoencoderConfig) -> None:
        first, second, hidden = config.style_channels
        side = config.latent_side // 4
        super().__init__(
            nn.Conv2d(config.latent_channels, first, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(second * side * side, hidden), nn.SiLU(), nn.Linear(hidden, STYLE_WIDTH),
        )  # fmt: skip


class PixelHead(nn.Module):
    """Features (B, C, h, w) and styles to pixels (B, 3, 2 h, 2 w): a styled hidden layer beside a linear one."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.style, self.hidden_style = nn.Linear(STYLE_WIDTH, channels), nn.Linear(STYLE_WIDTH, hidden)
        self.hidden = nn.Conv2d(channels, hidden, 1)
        self.pixels = nn.Conv2d(hidden, 12, 3, padding=1)
        self.linear = nn.Conv2d(channels, 12, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.hidden(x * self.style(style)[..., None, None]), SLOPE)
        bands = self.pixels(hidden * self.hidden_style(style)[..., None, None]) + self.linear(x)
        return F.pixel_shuffle(bands, 2)


class Decoder(nn.Module):
    """Raw latents (B, C, S/16, S/16) to images (B, 3, S, S), about [-1, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.style = StyleReader(config)
        widths, side = config.decoder_channels, config.latent_side
        self.lift = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            StyledBlock(before, after, side * 2 ** (i // 2 + 1), raises=i % 2 == 0)
            for i, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.head = PixelHead(widths[-1], config.head_channels)

    def forward(self, raw: Tensor) -> Tensor:
        return self.head(*self.features(raw))

    def features(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head gets: features (B, D, S/2, S/2) and styles (B, 512)."""
        style = self.style(raw)
        x = self.lift(raw)
        for block in self.blocks:
            x = block(x, style)
        return x, style


class FaceAutoencoder(nn.Module):
    """Images (B, 3, S, S) in [-1, 1] to latents (B, C, S/16, S/16) of unit variance and back.

    `latent_mean` and `latent_std` (C,) normalise the encoder's raw output.
    """

    latent_mean: Tensor
    latent_std: Tensor

    crop_advice = "Cut them at the size that the model names"
    """What an error says to do; a host puts its own words here."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.enc, self.dec = Encoder(config), Decoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    def encode(self, images: Tensor) -> Tensor:
        """Encode images in [-1, 1] to normalised latents.

        Raises:
            InputError: Not square crops of the side the model was trained on.
        """
        self._check(images, self.config.side, "crops", self.crop_advice)
        return (self.enc(images) - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents to images, about [-1, 1], not clipped.

        Raises:
            InputError: Not latents of the side the model was trained on.
        """
        self._check(latents, self.config.latent_side, "latents", "Encode face crops with the same model")
        return self.dec(latents * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean))

    @staticmethod
    def _check(values: Tensor, side: int, what: str, advice: str) -> None:
        if values.shape[-2:] != (side, side):
            height, width = values.shape[-2:]
            raise InputError(f"Expected {what} of {side} x {side} for the built-in model, got {width} x {height}. {advice}.")

    @staticmethod
    def _per_channel(values: Tensor) -> Tensor:
        return values.view(1, -1, 1, 1)
