"""Five-point similarity alignment and the warps that go with it.

Pixel coordinates are (x, y) with pixel centres at integers. Affine maps are (2, 3)
float64 arrays named from_to: `crop_to_image @ (x, y, 1)` is an image position.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError
from .pixels import as_values
from .types import FloatArray

ARC112_TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""Landmark positions in the 112 x 112 crop of the ArcFace family (Deng et al. 2019)."""

FFHQ_TEMPLATE = np.array([[0.3758, 0.4676], [0.6242, 0.4676], [0.5000, 0.6157], [0.3937, 0.7346], [0.6063, 0.7346]])
"""Mean landmark positions in an FFHQ-aligned crop, as fractions of its side.

Measured with the default detector on 385 faces drawn from a generator trained on FFHQ
(MobileStyleGAN, seeds 1000 to 1399, those with one face), made symmetric left to right.
"""


def estimate_similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """Fit the similarity (rotation, uniform scale, shift) that maps source to target.

    Args:
        source: (K, 2) points, K >= 2, not all equal.
        target: (K, 2) points.

    Returns:
        (2, 3) float64 least-squares map without reflection.

    Raises:
        InputError: The points coincide.

    Source: Umeyama (1991), least-squares estimation of transformation parameters; in two
        dimensions the closed form is a division of complex numbers.
    """
    source_c = source[:, 0] + 1j * source[:, 1]
    target_c = target[:, 0] + 1j * target[:, 1]
    centred = source_c - source_c.mean()
    spread = np.vdot(centred, centred).real
    if not spread > 0:
        raise InputError("Expected landmarks that differ from each other, got one repeated point.")
    turn = np.vdot(centred, target_c - target_c.mean()) / spread
    shift = target_c.mean() - turn * source_c.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def invert_affine(affine: FloatArray) -> FloatArray:
    """Invert a (2, 3) affine map."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def transform_points(affine: FloatArray, points: FloatArray) -> FloatArray:
    """Apply a (2, 3) affine map to (K, 2) points."""
    return points @ affine[:, :2].T + affine[:, 2]


def warp(
    images: Tensor,
    output_to_input: FloatArray | Tensor,
    size: tuple[int, int],
    *,
    padding: str = "border",
    antialias: bool = True,
    cubic: bool = False,
) -> Tensor:
    """Resample images through affine maps; differentiable with respect to the images.

    Args:
        images: (B, C, H, W) float, or bytes, of which values are made. Not modified.
        output_to_input: (B, 2, 3) or (2, 3) map from output pixels to input pixels.
        size: (height, width) of the output.
        padding: `border`, `reflection` or `zeros` for positions outside the input.
        antialias: When a map shrinks the image, average the input first by a whole
            factor, so that every input pixel counts (and gets a gradient).
        cubic: Bicubic instead of bilinear: sharper; overshoots by a few percent at edges.

    Returns:
        (B, C, height, width) float, on the device of `images`.
    """
    maps = torch.as_tensor(np.asarray(output_to_input) if not isinstance(output_to_input, Tensor) else output_to_input)
    maps = maps.to(device=images.device, dtype=torch.float64)
    maps = maps.expand(images.shape[0], 2, 3) if maps.ndim == 2 else maps
    if maps.shape[0] != images.shape[0]:
        raise InputError(f"Expected one map for each of {images.shape[0]} images, got {maps.shape[0]}.")
    factor = 1
    if antialias:
        scales = torch.linalg.det(maps[:, :, :2]).abs().sqrt()
        factor = int(scales.min().clamp(min=1.0).item())
    images, maps = _only_what_is_read(images, maps, size, factor)
    images = as_values(images)
    if factor > 1:
        images = F.avg_pool2d(images, factor, ceil_mode=True, count_include_pad=False)
        maps = maps / factor
        maps[:, :, 2] -= (factor - 1) / (2 * factor)
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(size[0], device=images.device, dtype=torch.float64),
        torch.arange(size[1], device=images.device, dtype=torch.float64),
        indexing="ij",
    )
    positions = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    source = torch.einsum("bij,hwj->bhwi", maps, positions)
    extent = torch.tensor([width, height], device=images.device, dtype=torch.float64)
    grid = (2 * source + 1) / extent - 1
    mode = "bicubic" if cubic else "bilinear"
    return F.grid_sample(images, grid.to(images.dtype), mode=mode, padding_mode=padding, align_corners=False)


def _only_what_is_read(images: Tensor, maps: Tensor, size: tuple[int, int], factor: int) -> tuple[Tensor, Tensor]:
    """Cut off what maps (B, 2, 3) do not read of images, in whole blocks of `factor`, so that large pictures cost no more."""
    corners = maps.new_tensor([[x, y, 1.0] for x in (0, size[1] - 1) for y in (0, size[0] - 1)])
    spots = torch.einsum("bij,kj->bki", maps, corners).flatten(0, 1)
    ends = []
    # Reflection and zeros read beyond an edge: two blocks of margin are more than bilinear resampling needs.
    for low, high, side in zip(spots.amin(dim=0).tolist(), spots.amax(dim=0).tolist(), images.shape[:1:-1], strict=True):
        start = int(min(max(low // factor - 2, 0), (side - 1) // factor)) * factor
        ends.append((start, int(min(max((high // factor + 4) * factor, start + factor), side))))
    (left, right), (top, bottom) = ends
    shifted = maps.clone()
    shifted[:, :, 2] -= shifted.new_tensor([left, top])
    return images[..., top:bottom, left:right], shifted
