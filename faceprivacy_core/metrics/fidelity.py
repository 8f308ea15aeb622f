"""Differences between two pictures that need no network: PSNR, SSIM, largest change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..errors import InputError
from ..types import Picture

WINDOW_SIGMA_PX = 1.5
WINDOW_RADIUS_PX = 5
"""Of SSIM's Gaussian window, cut at 3.5 times its width."""

LUMINANCE_STABILITY = (0.01 * 255) ** 2
CONTRAST_STABILITY = (0.03 * 255) ** 2
"""C1 and C2 of SSIM for 8-bit values."""

MIN_SIDE_PX = 2 * WINDOW_RADIUS_PX + 1
TILE_PX, STRIP_PIXELS = 512, 2**18
"""Side of the squares in which SSIM is measured, and pixels that are compared otherwise, at a time: memory does not grow with
the picture."""

Region = NDArray[np.bool_]


def compute_psnr(original: Picture, changed: Picture, region: Region) -> float | None:
    """Compute the peak signal-to-noise ratio in a region.

    Args:
        original: (H, W, 3) uint8.
        changed: (H, W, 3) uint8.
        region: (H, W) bool, the pixels that count.

    Returns:
        Decibels; infinity when nothing differs; None for an empty region.
    """
    check_pair(original, changed, region)
    count = int(np.count_nonzero(region)) * original.shape[2]
    if not count:
        return None
    error = sum(int(np.square(change.astype(np.int64)).sum()) for change in _changes(original, changed, region))
    return float(10.0 * np.log10(255.0**2 * count / error)) if error else math.inf


def compute_ssim(original: Picture, changed: Picture, region: Region) -> float | None:
    """Compute the mean structural similarity in a region; see `compute_ssim_in`."""
    return compute_ssim_in(original, changed, [region])[0]


def compute_ssim_in(original: Picture, changed: Picture, regions: Sequence[Region]) -> list[float | None]:
    """Compute the structural similarity around every pixel, averaged over the channels, and its mean in several regions.

    Windows at the rim of a region see beyond it. Where a whole window is equal in both
    pictures the value is 1 by definition, so only the surroundings of differences are computed.

    Args:
        original: (H, W, 3) uint8, both sides at least 11 pixels.
        changed: (H, W, 3) uint8.
        regions: (H, W) bool each, the pixels that count.

    Returns:
        For every region the mean in [-1, 1], 1 when nothing differs; None for an empty one.

    Source: Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment: from error
        visibility to structural similarity, with their Gaussian window.
    """
    for region in regions:
        check_pair(original, changed, region)
    missing = [0.0] * len(regions)
    for place, values in _ssim_tiles(original, changed):
        for index, region in enumerate(regions):
            missing[index] += float((1.0 - values[region[place]]).sum(dtype=np.float64))
    counts = [int(np.count_nonzero(region)) for region in regions]
    return [1.0 - lost / count if count else None for lost, count in zip(missing, counts, strict=True)]


def _ssim_tiles(original: Picture, changed: Picture) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    """Yield the places around which something differs, and the similarity there; elsewhere it is 1."""
    height, width = original.shape[:2]
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            place = slice(top, min(top + TILE_PX, height)), slice(left, min(left + TILE_PX, width))
            around = _with_surroundings(place[0], height), _with_surroundings(place[1], width)
            if np.array_equal(original[around], changed[around]):
                continue
            pairs = zip(np.moveaxis(original[around], 2, 0), np.moveaxis(changed[around], 2, 0), strict=True)
            maps = [_ssim_of_channel(before.astype(np.float32), after.astype(np.float32)) for before, after in pairs]
            inner = (slice(one.start - other.start, one.stop - other.start) for one, other in zip(place, around, strict=True))
            yield place, np.mean(maps, axis=0)[tuple(inner)]


def _with_surroundings(part: slice, length: int) -> slice:
    """Return a part with what the windows of its pixels see, never narrower than one window."""
    start = max(0, min(part.start - WINDOW_RADIUS_PX, length - MIN_SIDE_PX))
    return slice(start, min(part.stop + WINDOW_RADIUS_PX, length))


def _ssim_of_channel(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    def windowed(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return gaussian_filter(values, WINDOW_SIGMA_PX, radius=WINDOW_RADIUS_PX)

    mean_x, mean_y = windowed(x), windowed(y)
    variances = (windowed(x * x) - mean_x**2) + (windowed(y * y) - mean_y**2)
    covariance = windowed(x * y) - mean_x * mean_y
    luminance = (2.0 * mean_x * mean_y + LUMINANCE_STABILITY) / (mean_x**2 + mean_y**2 + LUMINANCE_STABILITY)
    return luminance * (2.0 * covariance + CONTRAST_STABILITY) / (variances + CONTRAST_STABILITY)


def mean_inside(values: NDArray[np.float32], region: Region) -> float | None:
    """Average a map (H, W) over a region; None for an empty one."""
    return float(values[region].mean(dtype=np.float64)) if region.any() else None


def compute_max_difference(original: Picture, changed: Picture, region: Region) -> int | None:
    """Return the largest change of any value in a region, 0 to 255; None for an empty region."""
    check_pair(original, changed, region)
    if not region.any():
        return None
    return max(int(np.abs(change).max()) for change in _changes(original, changed, region) if change.size)


def _changes(original: Picture, changed: Picture, region: Region) -> Iterator[NDArray[np.int16]]:
    """Yield the differences in a region, (N, 3), strip by strip."""
    for strip in _strips(original):
        inside = region[strip]
        yield original[strip][inside].astype(np.int16) - changed[strip][inside]


def _strips(picture: Picture) -> Iterator[slice]:
    """Yield the rows of a picture, some at a time."""
    rows = max(1, STRIP_PIXELS // picture.shape[1])
    yield from (slice(top, top + rows) for top in range(0, len(picture), rows))


def changed_region(original: Picture, changed: Picture, mask: NDArray[np.floating] | None) -> Region:
    """Return the pixels (H, W) that were allowed to change, or that did when no mask is known.

    Args:
        original: (H, W, 3) uint8.
        changed: (H, W, 3) uint8.
        mask: (H, W) in [0, 1]; any value above 0 allows a change.

    Raises:
        InputError: The mask has another size or other values.
    """
    if mask is None:
        differs = np.empty(original.shape[:2], np.bool_)
        for strip in _strips(original):
            differs[strip] = (original[strip] != changed[strip]).any(axis=2)
        return differs
    if mask.shape != original.shape[:2]:
        raise InputError(
            f"Expected a mask of the picture's size, (height, width) {original.shape[:2]}, got {mask.shape}. "
            "Draw it on the picture it belongs to."
        )
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise InputError(f"Expected mask values in [0, 1], got {mask.min():.3g} to {mask.max():.3g}.")
    return mask > 0


def bounding_box(region: Region, margin: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns that hold a region that is not empty, with a margin inside the picture."""
    slices = []
    for axis, length in enumerate(region.shape):
        used = np.flatnonzero(region.any(axis=1 - axis))
        slices.append(slice(max(0, int(used[0]) - margin), min(length, int(used[-1]) + 1 + margin)))
    return slices[0], slices[1]


def check_pair(original: Picture, changed: Picture, region: Region) -> None:
    """Raise InputError unless these are two 8-bit pictures and a region of one size."""
    for picture in (original, changed):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise InputError(f"Expected RGB pictures (H, W, 3) of type uint8, got {picture.shape}, {picture.dtype}.")
    if original.shape != changed.shape:
        raise InputError(
            f"Expected two pictures of one size, got {original.shape[1]} x {original.shape[0]} and "
            f"{changed.shape[1]} x {changed.shape[0]}. Compare the protected picture before it is resized or cropped."
        )
    if region.shape != original.shape[:2] or region.dtype != np.bool_:
        raise InputError(f"Expected a region {original.shape[:2]} of type bool, got {region.shape}, {region.dtype}.")
    if min(original.shape[:2]) < MIN_SIDE_PX:
        raise InputError(f"Expected pictures of at least {MIN_SIDE_PX} pixels on each side, got {original.shape[:2]}.")
