"""Random changes a published picture goes through, so that an attack is made to survive them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from ..align import warp
from ..errors import InputError
from ..rng import SEED_LIMIT

STEP_STRIDE = 1_000_003


class Change(str, Enum):
    """A kind of change."""

    RESIZE = "resize"
    BLUR = "blur"
    MOVE = "move"
    JPEG = "jpeg"


@dataclass(frozen=True)
class TransformSettings:
    """Which changes an attack shall survive.

    Attributes:
        copies: Randomly changed copies of every face in an iteration. They make the attack loss; the plain
            picture is only judged. Pushing with it too cost a fifth of the time and changed no decision
            (4 generated faces, 12 held-out decisions).
        kinds: What happens to a copy; one is drawn for each.
        scale: Least and largest factor of a resize, before it is enlarged again.
        blur_px: Least and largest width of a Gaussian blur, for crops of 256 pixels.
        turn_deg, zoom, shift: Largest rotation, relative change of size, and shift as a part of the
            side. Landmarks are not moved along: this is what a detector's errors look like.
        quality: Least and largest JPEG quality.

    Raises:
        InputError: There is nothing to do, or a number is out of range.
    """

    copies: int = 1
    kinds: tuple[Change, ...] = tuple(Change)
    scale: tuple[float, float] = (0.4, 0.9)
    blur_px: tuple[float, float] = (0.5, 2.0)
    turn_deg: float = 4.0
    zoom: float = 0.04
    shift: float = 0.015
    quality: tuple[int, int] = (60, 95)

    def __post_init__(self) -> None:
        ranges_rise = all(low <= high for low, high in (self.scale, self.blur_px, self.quality))
        in_range = self.scale[0] >= 0.05 and self.scale[1] <= 1.0 and self.blur_px[0] > 0 and 1 <= self.quality[0] <= 100
        if self.copies < 1 or not self.kinds or not ranges_rise or not in_range or self.quality[1] > 100:
            raise InputError(
                "Expected at least one copy and one kind of change, scales from 0.05 to 1, blurs above 0 and qualities from "
                f"1 to 100, least first, got {self}."
            )


def transform_copy(images: Tensor, seeds: Sequence[int], number: int, settings: TransformSettings) -> Tensor:
    """Change every image in a random way of its own.

    Args:
        images: (n, 3, S, S) in [0, 1]. Not modified; gradients pass.
        seeds: One for each image; an image's change depends on its seed and `number` alone.
        number: Of the draw, below a million.
        settings: What may happen.

    Returns:
        (n, 3, S, S) in [0, 1].

    Source: Athalye et al. (2018), expectation over transformation.
    """
    changed = []
    for image, seed in zip(images.split(1), seeds, strict=True):
        generator = torch.Generator().manual_seed((seed * STEP_STRIDE + number) % SEED_LIMIT)
        kind = settings.kinds[int(torch.randint(len(settings.kinds), (), generator=generator))]
        draws = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        changed.append(_CHANGES[kind](image, draws, settings).clamp(0.0, 1.0))
    return torch.cat(changed)


def resize_and_back(images: Tensor, scale: float) -> Tensor:
    """Reduce images with antialiasing by a factor, and enlarge them again."""
    height, width = images.shape[-2:]
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, (height, width), mode="bilinear", align_corners=False)


def blur(images: Tensor, sigma_px: float) -> Tensor:
    """Blur images with a Gaussian of this width."""
    size = 2 * math.ceil(3.0 * sigma_px) + 1
    return gaussian_blur(images, [size, size], [sigma_px, sigma_px])


def move(images: Tensor, turn_deg: float, zoom: float, shift: tuple[float, float]) -> Tensor:
    """Turn, enlarge (by 1 + zoom) and shift (in parts of the side) square images about their centre."""
    side = images.shape[-1]
    angle, centre = math.radians(turn_deg), (side - 1) / 2.0
    linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / (1.0 + zoom)
    offset = np.array([centre, centre]) - linear @ (np.array([centre, centre]) + side * np.array(shift))
    return warp(images, np.concatenate([linear, offset[:, None]], axis=1), (side, side))


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress images as JPEG.

    The values are those of a real encoder (Pillow); the gradient is that of no change at all, a
    straight-through estimate, since rounding has none.
    """
    with torch.no_grad():
        pixels = (images.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        decoded = torch.stack([torch.from_numpy(_through_jpeg(picture, quality)) for picture in pixels])
        values = decoded.permute(0, 3, 1, 2).to(images) / 255.0
    return images + (values - images.detach())


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file, formats=["JPEG"]) as opened:
        return np.array(opened.convert("RGB"))


def _between(limits: tuple[float, float], draw: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * draw


def _change_size(image: Tensor, draws: Sequence[float], settings: TransformSettings) -> Tensor:
    return resize_and_back(image, _between(settings.scale, draws[0]))


def _change_focus(image: Tensor, draws: Sequence[float], settings: TransformSettings) -> Tensor:
    return blur(image, _between(settings.blur_px, draws[0]) * image.shape[-1] / 256.0)


def _change_place(image: Tensor, draws: Sequence[float], settings: TransformSettings) -> Tensor:
    turn, zoom, right, down = (2.0 * draw - 1.0 for draw in draws)
    return move(image, turn * settings.turn_deg, zoom * settings.zoom, (right * settings.shift, down * settings.shift))


def _change_file(image: Tensor, draws: Sequence[float], settings: TransformSettings) -> Tensor:
    return jpeg(image, round(_between(settings.quality, draws[0])))


_CHANGES: dict[Change, Callable[[Tensor, Sequence[float], TransformSettings], Tensor]] = {
    Change.RESIZE: _change_size,
    Change.BLUR: _change_focus,
    Change.MOVE: _change_place,
    Change.JPEG: _change_file,
}
