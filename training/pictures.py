"""The pool of pictures, and random views of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.align import FFHQ_TEMPLATE

from .settings import DataSettings

_LUMA = (0.299, 0.587, 0.114)


def step_generator(seed: int, step: int, purpose: int = 0) -> torch.Generator:
    """Make the random source of one step, so that a resumed run continues exactly.

    Random numbers are drawn on the CPU: the same on every device.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 16 + purpose)


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures as a network gets them.

    Attributes:
        images: (B, 3, S, S) in [-1, 1].
        landmarks5: (B, 5, 2) in pixels, where an FFHQ-aligned face has them on average.
    """

    images: Tensor
    landmarks5: Tensor


class FacePool:
    """Pictures in memory or in a file.

    Args:
        pictures: (N, 3, P, P) uint8, on any device; may be a memory map.
        settings: Augmentation and the number held out.
        seeds: (N,) the generator's seed of every picture.
    """

    def __init__(self, pictures: Tensor, settings: DataSettings, seeds: Tensor | None = None) -> None:
        if len(pictures) <= settings.held_out:
            raise ValueError(f"Expected more than {settings.held_out} pictures, {settings.held_out} of them held out.")
        self.pictures = pictures
        self.settings = settings
        self.seeds = settings.first_seed + torch.arange(len(pictures)) if seeds is None else seeds
        self.train_count = len(pictures) - settings.held_out

    def draw(self, generator: torch.Generator, count: int, side: int, device: torch.device) -> Views:
        """Draw random views of random training pictures."""
        index = self.settings.held_out + torch.randint(self.train_count, (count,), generator=generator)
        return self.view(index, generator, side, device)

    def view(self, index: Tensor, generator: torch.Generator, side: int, device: torch.device) -> Views:
        """Make a random view, one zoom for all: cut, mirrored, recoloured and sharpened."""
        pool_side = self.pictures.shape[-1]
        cut = pool_side - int(torch.randint(int(self.settings.zoom * pool_side) + 1, (1,), generator=generator))
        offsets = torch.randint(pool_side - cut + 1, (len(index), 2), generator=generator)
        flips = torch.rand(len(index), generator=generator) < 0.5
        crops = torch.stack(
            [self.pictures[i, :, y : y + cut, x : x + cut] for i, (y, x) in zip(index.tolist(), offsets.tolist(), strict=True)]
        ).to(device)
        images = resize(crops.float() / 127.5 - 1.0, side)
        images = torch.where(flips.to(device)[:, None, None, None], images.flip(-1), images)
        images = recolour(images, self.settings.colour, generator)
        if self.settings.sharpen:
            images = sharpen(images, self.settings.sharpen, generator)
        return Views(images, _landmarks(pool_side, offsets, cut, flips, side))

    def whole(self, index: Tensor, side: int, device: torch.device) -> Views:
        """Return pictures as they were drawn."""
        pool_side, count = self.pictures.shape[-1], len(index)
        images = resize(self.pictures[index].to(device).float() / 127.5 - 1.0, side)
        landmarks = _landmarks(pool_side, torch.zeros(count, 2), pool_side, torch.zeros(count, dtype=torch.bool), side)
        return Views(images, landmarks)

    def held_out(self, side: int, device: torch.device) -> Views:
        """Return the whole pictures that are held out."""
        return self.whole(torch.arange(self.settings.held_out), side, device)


def resize(images: Tensor, side: int) -> Tensor:
    """Resample (B, C, P, P) to (B, C, side, side), low-pass filtered where that is smaller."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


def recolour(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of half of the pictures in [-1, 1]."""
    draws = (torch.rand(3, len(images), 1, 1, 1, generator=generator) * 2 - 1) * strength
    active = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5).to(images.device)
    brightness, contrast, saturation = draws.to(images.device)
    luma = (images * torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    changed = luma + (images - luma) * (1 + 2 * saturation)
    changed = ((changed + 0.5 * brightness) * (1 + contrast)).clamp(-1, 1)
    return torch.where(active, changed, images)


def sharpen(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Bring out the finest detail of half of the pictures in [-1, 1], by an unsharp mask of up to `strength`.

    Drawn faces are softer than photographs: their Laplacian varies little more than half as much.
    """
    amounts = torch.rand(len(images), 1, 1, 1, generator=generator) * strength
    amounts = amounts * (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5)
    weights = images.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = (weights[:, None] * weights).expand(images.shape[1], 1, 3, 3)
    soft = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])
    return (images + amounts.to(images.device) * (images - soft)).clamp(-1, 1)


def _landmarks(pool_side: int, offsets: Tensor, cut: int, flips: Tensor, side: int) -> Tensor:
    template = torch.from_numpy(FFHQ_TEMPLATE).float() * pool_side
    points = (template[None] - offsets.flip(1)[:, None]) * (side / cut) - 0.5
    mirrored = torch.stack([side - 1 - points[..., 0], points[..., 1]], dim=-1)[:, [1, 0, 2, 4, 3]]
    return torch.where(flips[:, None, None], mirrored, points)
