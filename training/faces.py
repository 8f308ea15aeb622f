"""Faces of people who do not exist, from seeds: those of the generator, or ovals for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .generator import Generator, load_generator
from .pictures import resize
from .settings import Settings

SYNTHETIC = "synthetic"


class FaceSource(Protocol):
    """Something that draws pictures from seeds."""

    def draw(self, first_seed: int, count: int) -> Tensor:
        """Draw pictures (count, 3, side, side) uint8; picture i depends on first_seed + i alone."""
        ...


class GeneratedFaces:
    """Faces of nobody, from seeds.

    Args:
        generator: Draws them at 1024 px.
        truncation: Bounds of the factor by which a style's distance from the mean is shrunk.
        side: Side of the pictures it returns.
    """

    def __init__(self, generator: Generator, truncation: tuple[float, float], side: int) -> None:
        self.generator, self.truncation, self.side = generator, truncation, side

    @torch.no_grad()
    def draw(self, first_seed: int, count: int) -> Tensor:
        """See `FaceSource.draw`."""
        styles = self.generator.draw_styles(range(first_seed, first_seed + count), self.truncation)
        return to_bytes(shrink(self.generator.picture(styles).clamp(-1, 1), self.side))


class OvalSource:
    """Coloured ovals with two dark dots: for tests, where no generator is at hand."""

    def __init__(self, side: int) -> None:
        self.side = side

    def draw(self, first_seed: int, count: int) -> Tensor:
        """See `FaceSource.draw`."""
        axis = torch.linspace(-1, 1, self.side)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        pictures = []
        for seed in range(first_seed, first_seed + count):
            draw = torch.rand(9, generator=torch.Generator().manual_seed(seed))
            skin, back = draw[:3] * 1.6 - 0.6, draw[3:6] * 2 - 1
            width, height = 0.45 + 0.2 * draw[6], 0.6 + 0.2 * draw[7]
            oval = torch.sigmoid(12 * (1 - (x / width) ** 2 - (y / height) ** 2))
            eyes = sum(torch.exp(-((x - sign * 0.2) ** 2 + (y + 0.1) ** 2) / 0.006) for sign in (-1, 1))
            picture = back[:, None, None] * (1 - oval) + skin[:, None, None] * oval
            pictures.append(picture * (1 - eyes) - eyes * (0.4 + 0.6 * draw[8]))
        return to_bytes(torch.stack(pictures))


def to_bytes(images: Tensor) -> Tensor:
    """Turn pictures in [-1, 1] into uint8."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def shrink(images: Tensor, side: int) -> Tensor:
    """Reduce pictures: means over squares where the sides divide, low-pass and resample elsewhere."""
    if images.shape[-1] % side == 0:
        return F.avg_pool2d(images, images.shape[-1] // side)
    return resize(images, side)


def load_source(settings: Settings, device: torch.device) -> FaceSource:
    """Load what `settings.data.generator` names."""
    options = settings.data
    if options.generator == SYNTHETIC:
        return OvalSource(options.side)
    return GeneratedFaces(load_generator(Path(options.generator)).to(device), options.truncation, options.side)
