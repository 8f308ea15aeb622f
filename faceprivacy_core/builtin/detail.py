"""Twice the pixels for a drawn crop: the finest detail of a face, for faces that are large in their photograph.

The next two blocks of the face generator hang on the decoder's features, so what is added is a face's detail; a look at the
pixels themselves keeps it where their edges are. Latents and everything that is judged stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .styled import SLOPE, StyledBlock


@dataclass(frozen=True)
class DetailConfig:
    """Shape of the network, stored in the header of its file.

    Attributes:
        channels: Of the decoder's last features.
        side: Side in pixels of the crops that are enlarged.
        widths: Channels that leave the two styled blocks, of which the first raises the side.
        hidden: Width of the layers before the pixels.
    """

    channels: int = 256
    side: int = 256
    widths: tuple[int, int] = (128, 128)
    hidden: int = 48


class DetailHead(nn.Module):
    """Crops, the decoder's features and styles to crops of twice the side."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.widths
        self.blocks = nn.ModuleList(
            (
                StyledBlock(config.channels, first, config.side, raises=True),
                StyledBlock(first, second, config.side, raises=False),
            )
        )
        self.drawn = nn.Conv2d(second, config.hidden, 1)
        self.seen = nn.Conv2d(3, config.hidden, 3, padding=1, bias=False)
        self.both = nn.Conv2d(config.hidden, config.hidden, 3, padding=1)
        self.pixels = nn.Conv2d(config.hidden, 12, 3, padding=1)
        nn.init.zeros_(self.pixels.weight)
        nn.init.zeros_(self.pixels.bias)

    def forward(self, crops: Tensor, features: Tensor, style: Tensor) -> Tensor:
        """Enlarge crops (B, 3, S, S) in [-1, 1] to (B, 3, 2 S, 2 S).

        Args:
            crops: What to enlarge; the result is theirs, resampled, and detail.
            features: (B, C, S/2, S/2) of `Decoder.features`, of these crops.
            style: (B, 512) of the same.
        """
        x = features
        for block in self.blocks:
            x = block(x, style)
        x = F.leaky_relu(self.drawn(x) + self.seen(crops), SLOPE)
        x = F.leaky_relu(self.both(x), SLOPE)
        return twice(crops) + F.pixel_shuffle(self.pixels(x), 2)


def twice(images: Tensor) -> Tensor:
    """Resample images (B, C, h, w) to twice the sides, bicubic."""
    return F.interpolate(images, scale_factor=2, mode="bicubic", align_corners=False)
