"""Blocks whose channels are scaled by a style: what the face generator and the decoder are built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STYLE_WIDTH = 512
SLOPE = 0.2
"""Slope of the leaky ReLU below 0."""


class StyledBlock(nn.Module):
    """Features (B, C, h, w) and styles (B, 512) to features (B, D, h', w').

    With `raises` the input's channels are Haar subbands of a picture of a quarter of the
    channels and twice the side: h' = 2 h. A constant map of noise is added everywhere alike.

    Args:
        channels: C, before raising.
        out_channels: D.
        side: h' of the noise map.
        raises: Undo one level of the wavelet transform first.
        full: One 3x3 convolution instead of a depthwise and a pointwise one.

    Source: Belousov (2021), MobileStyleGAN, arXiv 2104.04767, section 3.
    """

    def __init__(self, channels: int, out_channels: int, side: int, *, raises: bool, full: bool = False) -> None:
        super().__init__()
        inner = channels // 4 if raises else channels
        self.band_style = nn.Linear(STYLE_WIDTH, channels) if raises else None
        self.style = nn.Linear(STYLE_WIDTH, inner)
        self.depthwise = None if full else nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.mix = nn.Conv2d(inner, out_channels, 3 if full else 1, padding=1 if full else 0)
        self.noise = nn.Parameter(torch.zeros(1, 1, side, side))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.band_style is not None:
            x = inverse_haar(x * self.band_style(style)[..., None, None])
        x = x * self.style(style)[..., None, None]
        if self.depthwise is not None:
            x = self.depthwise(x)
        return F.leaky_relu(self.mix(x) + self.noise, SLOPE)


def inverse_haar(bands: Tensor) -> Tensor:
    """Undo one level of the Haar transform: (B, 4 C, h, w) to (B, C, 2 h, 2 w).

    The bands, C channels each: averages, differences between rows, between columns, of both.
    """
    average, rows, columns, both = bands.permute(0, 2, 3, 1).chunk(4, dim=-1)
    upper, lower, upper_change, lower_change = average + rows, average - rows, columns + both, columns - both
    pairs = ((upper, upper_change), (lower, lower_change))
    lines = [torch.stack([line + change, line - change], dim=3) for line, change in pairs]
    return 0.5 * torch.stack(lines, dim=2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
