"""The pixels of a picture that a keyed face takes, computed alike by writer and reader.

A region is a set of cells of an aligned crop (one latent position each: 8 x 8 crop pixels with most
autoencoders, 16 x 16 with some) and the crop's place in the picture. Both stand in the public header, and the pixels follow
from them with additions, multiplications and comparisons alone, so that every machine
finds the same pixels to the last one. The rule is part of the file format: another one needs
another `header.VERSION`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..align import warp
from ..errors import InputError, NoFaceError
from ..picture_files import is_grey
from ..pixels import without_colours
from ..types import Picture

CELL_SIDES = (8, 16)
"""Sides that a cell may have, crop pixels: the downscaling of the latents. Powers of two, so that dividing by one is exact."""

DEFAULT_CELL = 8
"""Where no model says one, and in files of version 1."""

MIN_COVER = 0.3
"""Part of a cell that the mask must cover for the cell to belong to the face."""

STEEPNESS = 3.0
"""Of the rim: a pixel is replaced wholly where five sixths of its neighbourhood belong to the face."""

STEEP_FACTOR = 8.0 / 3.0
"""Of a narrow rim against the usual one."""

MAX_OVERLAP = 16
"""How often crops may cover a picture in all, so that a forged header cannot take unbounded memory and time."""

BAND_PIXELS = 2**18
"""Pixels whose weights are computed at a time, 120 bytes each."""

MAX_TOUCHED = 2**25
"""Pixels that crops may cover in all where that is more than twice the picture."""


@dataclass(frozen=True, eq=False)
class Region:
    """Where one face lies.

    Attributes:
        crop_size: Side of the aligned crop, pixels.
        crop_to_image: (2, 3) float64, crop pixels to picture pixels.
        cells: (rows, cols) bool, the cells of the crop that are replaced.
    """

    crop_size: int
    crop_to_image: NDArray[np.float64]
    cells: NDArray[np.bool_]

    def __post_init__(self) -> None:
        rows, columns = self.cells.shape
        if rows != columns or self.crop_size % rows or self.crop_size // rows not in CELL_SIDES:
            raise InputError(
                f"Expected as many rows as columns of cells, with a side of 8 or 16 pixels in a crop of {self.crop_size}, "
                f"got {rows} x {columns} cells."
            )

    @property
    def cell(self) -> int:
        """Side of a cell, crop pixels."""
        return self.crop_size // len(self.cells)

    @property
    def image_to_crop(self) -> NDArray[np.float64]:
        """The inverse map, in closed form."""
        (a, b, x), (c, d, y) = self.crop_to_image
        determinant = a * d - b * c
        linear = np.array([[d, -b], [-c, a]]) / determinant
        shift = np.array([linear[0, 0] * x + linear[0, 1] * y, linear[1, 0] * x + linear[1, 1] * y])
        return np.column_stack([linear, -shift])

    @property
    def scale(self) -> float:
        """Picture pixels per crop pixel."""
        (a, b, _), (c, d, _) = self.crop_to_image
        return float(np.sqrt(abs(a * d - b * c)))

    def latent_mask(self) -> Tensor:
        """Return the cells as (1, 1, rows, cols) float32, 1 where the face is."""
        return torch.from_numpy(self.cells.astype(np.float32))[None, None]


@dataclass(frozen=True, eq=False)
class Claim:
    """The pixels of a region that are its own.

    Attributes:
        rows, columns: Slices of the picture: the smallest rectangle around the pixels.
        weights: (height, width) float64 in [0, 1] in that rectangle: how much of a pixel is
            replaced. 0 belongs to somebody else. It rises from the outline to 1 over about half a cell.
    """

    rows: slice
    columns: slice
    weights: NDArray[np.float64]

    @property
    def owned(self) -> NDArray[np.bool_]:
        """(height, width) bool in the rectangle."""
        return self.weights > 0.0

    def with_steep_rim(self) -> Claim:
        """Return the same pixels with a narrow rim: nearly all of the face can then be read off the picture."""
        return replace(self, weights=np.minimum(self.weights * STEEP_FACTOR, 1.0))


def choose_cells(mask: Tensor, cell: int) -> NDArray[np.bool_]:
    """Choose the cells of a face from its mask.

    Args:
        mask: (1, 1, S, S) in [0, 1], the face's own mask in crop pixels.
        cell: Side of a cell, crop pixels.

    Returns:
        (S / cell, S / cell) bool: cells of which the mask touches at least 30 %.

    Raises:
        NoFaceError: The mask leaves no cell.
    """
    cells = (F.avg_pool2d((mask > 0).float(), cell) > MIN_COVER)[0, 0].numpy()
    if not cells.any():
        raise NoFaceError("Expected a mask that covers the face, got one that leaves nothing of it. Widen the mask.")
    return cells


def claim_pixels(regions: Sequence[Region], height: int, width: int) -> list[Claim]:
    """Share out the pixels of a picture: where regions overlap, the earlier one keeps a pixel.

    Args:
        regions: Regions in the order of the keyed picture.
        height, width: Size of the picture.

    Raises:
        InputError: Nothing of a region is left in the picture, or the crops cover it too often.
    """
    windows = [_window(region, height, width) for region in regions]
    touched = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows)
    if touched > min(MAX_OVERLAP * height * width, max(MAX_TOUCHED, 2 * height * width)):
        raise InputError(
            f"Expected crops that cover the picture at most {MAX_OVERLAP} times together, and a large picture at most twice. "
            "Choose fewer faces."
        )
    taken = np.zeros((height, width), dtype=bool)
    claims = []
    for region, (rows, columns) in zip(regions, windows, strict=True):
        weights = _weights(region, rows, columns)
        weights[taken[rows, columns]] = 0.0
        down, across = ((weights > 0.0).any(axis=axis).nonzero()[0] for axis in (1, 0))
        if not len(down):
            raise InputError("Expected every face to have pixels of its own, one has none. Choose fewer, or other, faces.")
        (top, bottom), (left, right) = ((line[0], line[-1] + 1) for line in (down, across))
        own = weights[top:bottom, left:right]
        claim = Claim(
            slice(rows.start + int(top), rows.start + int(bottom)),
            slice(columns.start + int(left), columns.start + int(right)),
            own,
        )
        taken[claim.rows, claim.columns] |= claim.owned
        claims.append(claim)
    return claims


def claimed_pixels(claims: Sequence[Claim], height: int, width: int) -> NDArray[np.bool_]:
    """Return the union of all claims, (height, width) bool."""
    union = np.zeros((height, width), dtype=bool)
    for claim in claims:
        union[claim.rows, claim.columns] |= claim.owned
    return union


def cut_crop(picture: Tensor, region: Region) -> Tensor:
    """Cut the crop of a region from a picture (1, C, H, W): (1, C, S, S)."""
    return warp(picture, region.crop_to_image, (region.crop_size, region.crop_size))


def lay_crop(crop: Tensor, region: Region, claim: Claim) -> Tensor:
    """Resample a crop (1, C, S, S) into the rectangle of a claim, (C, height, width); differentiable."""
    image_to_crop = region.image_to_crop
    shifted = image_to_crop.copy()
    shifted[:, 2] += image_to_crop[:, 0] * claim.columns.start + image_to_crop[:, 1] * claim.rows.start
    return warp(crop, shifted, claim.weights.shape)[0]


def paste(picture: Picture, layer: Tensor, claim: Claim, *, soft: bool) -> Picture:
    """Replace the pixels of a claim; every other byte stays, and a picture without colour stays without.

    Args:
        picture: (H, W, 3) uint8. Not modified.
        layer: (3, height, width) in [0, 1] for the claim's rectangle.
        claim: The pixels.
        soft: Blend over the claim's rim; otherwise replace every owned pixel wholly.
    """
    if is_grey(picture):
        layer = without_colours(layer)
    weights = claim.weights if soft else claim.owned.astype(np.float64)
    result = picture.copy()
    window = result[claim.rows, claim.columns]
    target = 255.0 * layer.detach().clamp(0.0, 1.0).permute(1, 2, 0).double().cpu().numpy()
    blended = np.rint(window + weights[..., None] * (target - window)).astype(np.uint8)
    window[claim.owned] = blended[claim.owned]
    return result


def _window(region: Region, height: int, width: int) -> tuple[slice, slice]:
    """Return the part of the picture that the cells, and the smoothing around them, can touch."""
    rows, columns = (np.flatnonzero(region.cells.any(axis=axis)) for axis in (1, 0))
    edges = [region.cell * (np.array([line[0] - 1, line[-1] + 2]) - 0.5 / region.cell) for line in (columns, rows)]
    corners = np.array([[x, y] for x in edges[0] for y in edges[1]])
    spots = corners @ region.crop_to_image[:, :2].T + region.crop_to_image[:, 2]
    low, high = np.floor(spots.min(axis=0)), np.ceil(spots.max(axis=0)) + 1
    left, top = (int(value) for value in np.clip(low, 0, [width - 1, height - 1]))
    right, bottom = (int(value) for value in np.clip(high, [left + 1, top + 1], [width, height]))
    return slice(top, bottom), slice(left, right)


def _weights(region: Region, rows: slice, columns: slice) -> NDArray[np.float64]:
    """Compute the weights of a rectangle, in bands of rows, so that large faces take little memory."""
    width = columns.stop - columns.start
    weights, height = np.empty((rows.stop - rows.start, width)), max(BAND_PIXELS // width, 1)
    for top in range(rows.start, rows.stop, height):
        band = slice(top, min(top + height, rows.stop))
        weights[band.start - rows.start : band.stop - rows.start] = _band_weights(region, band, columns)
    return weights


def _band_weights(region: Region, rows: slice, columns: slice) -> NDArray[np.float64]:
    """Smooth the cells with a quadratic B-spline, which rounds their corners, and steepen the rim."""
    y, x = np.mgrid[rows, columns].astype(np.float64)
    (a, b, left), (c, d, top) = region.image_to_crop
    column, across = _nearest((a * x + b * y + left + 0.5) / region.cell - 0.5)
    row, down = _nearest((c * x + d * y + top + 0.5) / region.cell - 0.5)
    padded = np.pad(region.cells.astype(np.float64), 2)
    limit = region.cells.shape[0]
    inside = (column >= -1) & (row >= -1) & (column <= limit) & (row <= limit)
    column, row = (np.where(inside, index, 0) + 2 for index in (column, row))
    covered = np.zeros(inside.shape)
    for step_down, share_down in zip((-1, 0, 1), down, strict=True):
        for step_across, share_across in zip((-1, 0, 1), across, strict=True):
            covered += share_down * share_across * padded[row + step_down, column + step_across]
    return np.where(inside, np.clip(STEEPNESS * (covered - 0.5), 0.0, 1.0), 0.0)


def _nearest(position: NDArray[np.float64]) -> tuple[NDArray[np.intp], tuple[NDArray[np.float64], ...]]:
    """Return the nearest whole number and the weights of it and its neighbours."""
    index = np.floor(position + 0.5)
    offset = position - index
    shares = (0.5 * (0.5 - offset) * (0.5 - offset), 0.75 - offset * offset, 0.5 * (0.5 + offset) * (0.5 + offset))
    return index.astype(np.intp), shares
