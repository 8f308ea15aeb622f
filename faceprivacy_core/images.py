"""Cutting aligned face crops out of pictures and putting them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .align import FFHQ_TEMPLATE, estimate_similarity, invert_affine, transform_points, warp
from .errors import InputError, NoFaceError
from .ovals import FACE
from .pixels import as_in, as_values, without_colours
from .texture import MAX_AMOUNT, match_sharpness
from .types import Face, FaceCrop, FaceCrops, Faces, FloatArray

MIN_EYE_MOUTH_PX = 5.0
"""Below this distance between eyes and mouth a face holds too few pixels to align."""

BAND_ROWS = 256
"""Rows of a picture that are shared out at a time."""

ENLARGE_FROM = 1.3
"""Pixels of the picture for each of a result from which on a result is enlarged, if something can."""

Enlarge = Callable[[Tensor], Tensor]
"""Draws crops (B, 3, S, S) in [0, 1] with more pixels and finer detail."""

RIM = 0.04
"""Width of the rim of a crop over which its weight falls to 0, as a fraction of its side."""


def eye_mouth_distance(face: Face) -> float:
    """Return the distance between the middle of the eyes and that of the mouth, pixels."""
    return float(np.linalg.norm(face.landmarks5[3:].mean(axis=0) - face.landmarks5[:2].mean(axis=0)))


def place_crop(face: Face, size: int) -> FaceCrop:
    """Place the aligned square crop of a face.

    Args:
        face: Face with landmarks in image pixels.
        size: Side of the crop in pixels, a multiple of 8.

    Raises:
        InputError: The size is not a multiple of 8 of at least 64, or the face is too small.
    """
    if size < 64 or size % 8:
        raise InputError(f"Expected a crop size of at least 64 that is a multiple of 8, got {size}.")
    distance = eye_mouth_distance(face)
    if distance < MIN_EYE_MOUTH_PX:
        raise InputError(
            f"Expected at least {MIN_EYE_MOUTH_PX:.0f} pixels between eyes and mouth, got {distance:.1f} for the face at "
            f"{describe_box(face)}. Enlarge the picture, or pixelate such faces (--blur-small; in a workflow, choose the "
            "others and blur this one)."
        )
    template = FFHQ_TEMPLATE * size - 0.5
    crop_to_image = estimate_similarity(template, face.landmarks5)
    landmarks = transform_points(invert_affine(crop_to_image), face.landmarks5)
    return FaceCrop(face, size, crop_to_image, landmarks)


def crop_faces(images: Tensor, faces: Faces, size: int) -> tuple[Tensor, FaceCrops]:
    """Cut an aligned square crop for every face.

    Args:
        images: (B, C, H, W) pictures (or masks, C = 1), float or bytes. Not modified.
        faces: Faces found in these pictures.
        size: Side of the crops in pixels, a multiple of 8.

    Returns:
        (N, C, size, size) crops in the order of `faces.items` and their placement. Where a
        crop leaves the picture, the picture's edge pixels are repeated.

    Raises:
        NoFaceError: There is no face.
        InputError: Images and faces do not belong together.
    """
    _check_same_pictures(images, faces)
    if not faces.items:
        raise NoFaceError("Expected at least one face to crop, got none. Choose others, or accept a lower confidence.")
    crops = FaceCrops(tuple(place_crop(face, size) for face in faces.items), faces, size=size)
    return cut(images, crops), crops


def cut(images: Tensor, crops: FaceCrops) -> Tensor:
    """Resample placed crops from pictures of the same size, (N, C, size, size)."""
    _check_same_pictures(images, crops.faces)
    size = (crops.size, crops.size)
    cuts = [warp(images[crop.face.image_index][None], crop.crop_to_image, size) for crop in crops.items]
    return torch.cat(cuts)


def take_crops(crops: FaceCrops, numbers: Sequence[int]) -> FaceCrops:
    """Return the placement of some of the crops, in the order of their numbers."""
    kept = replace(crops.faces, items=tuple(crops.faces.items[number] for number in numbers))
    return replace(crops, items=tuple(crops.items[number] for number in numbers), faces=kept)


def magnification(crop: FaceCrop) -> float:
    """Return how many pixels of the picture a pixel of the crop is wide."""
    return float(np.sqrt(abs(np.linalg.det(crop.crop_to_image[:, :2]))))


def crop_landmarks(crops: FaceCrops) -> Tensor:
    """Return the landmarks of all crops in crop pixels, (N, 5, 2) float32."""
    return torch.from_numpy(np.stack([crop.landmarks5 for crop in crops.items])).float()


def paste_faces(
    images: Tensor, results: Tensor, crops: FaceCrops, mask: Tensor, *, sharpen: bool = False, enlarge: Enlarge | None = None
) -> Tensor:  # fmt: skip
    """Put changed crops back at full resolution.

    Args:
        images: (B, 3, H, W) pictures, values in [0, 1] or bytes: large ones take a quarter so. Not modified.
        results: (V * N, 3, S, S) changed crops in [0, 1], variant by variant; S may differ
            from the size of the crops.
        crops: Placement of the N crops.
        mask: (B, 1, H, W) in [0, 1], where and how strongly a picture is replaced.
        sharpen: Give the new faces the sharpness that the old ones have in the picture; see `texture.match_sharpness`.
        enlarge: Asked for more pixels where a face is large in the picture, one at a time; see `ENLARGE_FROM`.

    Returns:
        (V * B, 3, H, W), values or bytes as `images`. Where the mask is 0 every one is exactly that of `images`.
        Where faces overlap, each pixel goes to the face it is nearer to. A picture without
        colour stays without.

    Raises:
        InputError: Counts or sizes do not fit, values are not finite, or the mask marks
            pixels that no crop covers (they would stay unprotected).
    """
    _check_same_pictures(images, crops.faces)
    check_results(results, crops)
    _check_mask_and_values(images, results, mask)
    shares = share_mask(crops, mask)
    variants = [_paste_variant(images, variant, crops, shares, sharpen, enlarge) for variant in results.split(len(crops))]
    return variants[0] if len(variants) == 1 else torch.cat(variants)


def _paste_variant(
    images: Tensor, results: Tensor, crops: FaceCrops, shares: list[Share], sharpen: bool, enlarge: Enlarge | None
) -> Tensor:  # fmt: skip
    pasted, without_colour = images.clone(), [_is_grey(image) for image in images]
    for crop, result, share in zip(crops.items, results, shares, strict=True):
        if enlarge is not None and magnification(crop) * crop.size > ENLARGE_FROM * result.shape[-1]:
            result = enlarge(result[None])[0].clamp(0.0, 1.0)
        layer = _lay(result, crop, share, without_colour[crop.face.image_index], cubic=True)
        stored = share.window_of(pasted[crop.face.image_index])
        window = as_values(stored)
        if sharpen and layer.numel():
            inside = FACE.holds(*_crop_position(crop, share.rows, share.columns))[None, None].to(layer)
            coarse = max(1.0, magnification(crop) * crop.size / result.shape[-1])  # finer than its pixels a face has no detail
            layer = match_sharpness(layer.clamp(0.0, 1.0)[None], window[None], inside, MAX_AMOUNT / coarse)[0]
        blended = (window + share.weights * (layer - window)).clamp(0.0, 1.0)
        stored.copy_(torch.where(share.weights > 0, as_in(stored, blended), stored))
    return pasted


def paste_residual(images: Tensor, residuals: Tensor, crops: FaceCrops, mask: Tensor) -> Tensor:
    """Add changes of crops to the pictures at full resolution: clamp(x + mask * warp(residual)).

    Only the change is resampled, so the detail of the picture stays.

    Args:
        images: (B, 3, H, W) pictures in [0, 1]. Not modified.
        residuals: (N, 3, S, S) changes of the crops; S may differ from the size of the crops.
        crops: Placement of the N crops.
        mask: (B, 1, H, W) in [0, 1], where and how strongly a change is taken.

    Returns:
        (B, 3, H, W) in [0, 1]. Where mask or residual are 0 every value is exactly that of `images`.
        Where faces overlap, each pixel changes with the face it is nearer to. A picture without
        colour stays without.

    Raises:
        InputError: Counts or sizes do not fit, values are not finite, or the mask marks
            pixels that no crop covers (they would stay unprotected).
    """
    _check_same_pictures(images, crops.faces)
    if residuals.ndim != 4 or len(residuals) != len(crops) or residuals.shape[-1] != residuals.shape[-2]:
        raise InputError(f"Expected {len(crops)} square changes of crops, got a tensor {tuple(residuals.shape)}.")
    _check_mask_and_values(images, residuals, mask)
    pasted, without_colour = images.clone(), [_is_grey(image) for image in images]
    for crop, residual, share in zip(crops.items, residuals, share_mask(crops, mask), strict=True):
        layer = _lay(residual, crop, share, without_colour[crop.face.image_index])
        window = share.window_of(pasted[crop.face.image_index])
        window.copy_(torch.where(share.weights > 0, (window + share.weights * layer).clamp(0.0, 1.0), window))
    return pasted


@dataclass(frozen=True, eq=False)
class Share:
    """A face's part of a mask, in the rectangle of the picture that its crop touches.

    Attributes:
        rows, columns: The rectangle; may be empty.
        weights: (1, h, w) in [0, 1], falling to 0 over the rim of the crop.
    """

    rows: slice
    columns: slice
    weights: Tensor

    def window_of(self, images: Tensor) -> Tensor:
        """Return the rectangle of pictures (..., H, W), a view."""
        return images[..., self.rows, self.columns]

    def whole(self, height: int, width: int) -> Tensor:
        """Return the weights at the size of the picture, (1, height, width)."""
        full = self.weights.new_zeros(1, height, width)
        full[:, self.rows, self.columns] = self.weights
        return full


def share_mask(crops: FaceCrops, mask: Tensor) -> list[Share]:
    """Share a mask out among the faces: each pixel goes to the face it is nearer to.

    Memory is that of the crops' rectangles, and of a band of rows.

    Args:
        crops: Placement of N crops.
        mask: (B, 1, H, W) in [0, 1].

    Returns:
        One share for each crop.

    Raises:
        InputError: More than 2 % of the mask lies outside every crop and would stay unprotected.
    """
    shares: list[Share | None] = [None] * len(crops)
    height, width = mask.shape[-2:]
    for index in range(mask.shape[0]):
        windows = {
            number: _window(crop, height, width) for number, crop in enumerate(crops.items) if crop.face.image_index == index
        }
        for number, (rows, columns) in windows.items():
            shares[number] = Share(rows, columns, mask.new_empty(1, rows.stop - rows.start, columns.stop - columns.start))
        missed = 0.0
        for top in range(0, height, BAND_ROWS):
            band = slice(top, min(top + BAND_ROWS, height))
            owner = _owners(crops, windows, band, width)
            missed += float(mask[index, 0, band][owner < 0].sum())
            for number, (rows, _) in windows.items():
                part = _overlap(rows, band)
                if part.start < part.stop:
                    _fill_share(shares[number], number, crops.items[number], mask[index], part, owner[_within(part, band)])
        _check_covered(float(mask[index].sum()), missed, index)
    return [share for share in shares if share is not None]


def lay_masks(masks: Tensor, crops: FaceCrops, limit: Tensor, laid: Tensor) -> None:
    """Lay masks of crops into the pictures, never above a limit; where masks overlap the larger one counts.

    Args:
        masks: (N, 1, S, S) in [0, 1].
        crops: Placement of the N crops.
        limit: (B, 1, H, W) in [0, 1].
        laid: (B, 1, H, W), those that were laid before; modified.
    """
    for mask, crop in zip(masks, crops.items, strict=True):
        index = crop.face.image_index
        rows, columns = _window(crop, *limit.shape[-2:])
        to_mask = invert_affine(crop.crop_to_image)
        to_mask[:, 2] += to_mask[:, 0] * columns.start + to_mask[:, 1] * rows.start
        window = laid[index, :, rows, columns]
        layer = warp(mask[None].to(limit), to_mask, tuple(window.shape[-2:]), padding="zeros")[0]
        window.copy_(torch.minimum(torch.maximum(window, layer), limit[index, :, rows, columns]))


def _owners(crops: FaceCrops, windows: Mapping[int, tuple[slice, slice]], band: slice, width: int) -> Tensor:
    """Return the number of the nearest face for every pixel of a band of rows, -1 where no crop is; (h, width) int32."""
    nearest = torch.full((band.stop - band.start, width), float("inf"), dtype=torch.float64)
    owner = torch.full(nearest.shape, -1, dtype=torch.int32)
    for number, (rows, columns) in windows.items():
        part = _overlap(rows, band)
        if part.start >= part.stop:
            continue
        u, v = _crop_position(crops.items[number], part, columns)
        distance = torch.where(_border(u, v) > 0, torch.hypot(u - 0.5, v - 0.55), float("inf"))
        place = (_within(part, band), columns)
        is_nearer = distance < nearest[place]
        nearest[place] = torch.where(is_nearer, distance, nearest[place])
        owner[place] = torch.where(is_nearer, number, owner[place])
    return owner


def _fill_share(share: Share | None, number: int, crop: FaceCrop, mask: Tensor, part: slice, owner: Tensor) -> None:
    """Write the weights of some rows of a share; `owner` is that of these rows, `mask` (1, H, W)."""
    assert share is not None  # noqa: S101 - made for every crop
    cover = (_border(*_crop_position(crop, part, share.columns)) / RIM).clamp(0.0, 1.0)
    owned = (owner[:, share.columns] == number).to(mask)
    share.weights[:, _within(part, share.rows)] = mask[:, part, share.columns] * cover.to(mask) * owned


def _overlap(rows: slice, band: slice) -> slice:
    return slice(max(rows.start, band.start), min(rows.stop, band.stop))


def _within(part: slice, whole: slice) -> slice:
    """Return the place of a part, counted from the beginning of what it is part of."""
    return slice(part.start - whole.start, part.stop - whole.start)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])


def _lay(values: Tensor, crop: FaceCrop, share: Share, without_colour: bool, *, cubic: bool = False) -> Tensor:
    """Resample a changed crop (3, S, S) into the rectangle of its share, (3, h, w)."""
    if without_colour:
        values = without_colours(values)
    to_values = _rescale(invert_affine(crop.crop_to_image), values.shape[-1] / crop.size)
    to_values[:, 2] += to_values[:, 0] * share.columns.start + to_values[:, 1] * share.rows.start
    return warp(values[None], to_values, tuple(share.weights.shape[-2:]), cubic=cubic)[0]


def _window(crop: FaceCrop, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of the picture that a crop touches."""
    edge = crop.size - 0.5
    spots = transform_points(crop.crop_to_image, np.array([[-0.5, -0.5], [edge, -0.5], [-0.5, edge], [edge, edge]]))
    low = np.clip(np.floor(spots.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(spots.max(axis=0)) + 1, low + 1, (width, height)).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _crop_position(crop: FaceCrop, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Return where the pixels of a rectangle lie in a crop, fractions of its side."""
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64)[:, None]
    x = torch.arange(columns.start, columns.stop, dtype=torch.float64)[None, :]
    u, v = ((row[0] * x + row[1] * y + row[2] + 0.5) / crop.size for row in invert_affine(crop.crop_to_image))
    return u, v


def _border(u: Tensor, v: Tensor) -> Tensor:
    """Return the distance to the nearest side of the crop, negative outside."""
    return torch.minimum(torch.minimum(u, 1.0 - u), torch.minimum(v, 1.0 - v))


def check_results(results: Tensor, crops: FaceCrops) -> None:
    """Make sure that there are changed crops for every face, and square ones; InputError otherwise."""
    num_faces = len(crops)
    if num_faces == 0 or results.shape[0] % num_faces:
        raise InputError(
            f"Expected a multiple of {num_faces} changed crops (one for each face and variant), got {results.shape[0]}."
        )
    if results.shape[-1] != results.shape[-2]:
        raise InputError(f"Expected square crops, got {tuple(results.shape[-2:])}.")


def check_mask(images: Tensor, mask: Tensor) -> None:
    """Make sure that a mask is of the number and size of its pictures; InputError otherwise."""
    if mask.shape != (images.shape[0], 1, *images.shape[-2:]):
        raise InputError(
            f"Expected a mask for every picture, {len(images)} of {images.shape[-1]} x {images.shape[-2]} pixels, got "
            f"{len(mask)} of {mask.shape[-1]} x {mask.shape[-2]}. Draw it on the picture, or take that of the faces."
        )


def _check_mask_and_values(images: Tensor, values: Tensor, mask: Tensor) -> None:
    check_mask(images, mask)
    if not bool(torch.isfinite(values).all()):
        raise InputError("Expected finite crops, got NaN or infinity. Sample in fp32 or lower the guidance strength.")


def _check_covered(total: float, missed: float, index: int) -> None:
    if missed > 0.02 * max(total, 1.0):
        raise InputError(
            f"Image {index}: {100 * missed / total:.0f} % of the mask lies outside every face crop and would stay "
            "unprotected. Use the mask of the same faces, or a smaller one."
        )


def _rescale(affine: FloatArray, factor: float) -> FloatArray:
    """Let an affine map end in pixels of a picture `factor` times as large."""
    scaled = affine * factor
    scaled[:, 2] += (factor - 1.0) / 2.0
    return scaled


def _check_same_pictures(images: Tensor, faces: Faces) -> None:
    expected = (faces.num_images, faces.height, faces.width)
    got = (images.shape[0], *images.shape[-2:])
    if got != expected:
        raise InputError(
            f"Expected the pictures the faces were found in (count, height, width = {expected}), got {got}. "
            "Give the same pictures to both."
        )


def describe_box(face: Face) -> str:
    """Say where a face is."""
    left, top, right, bottom = (round(value) for value in face.bbox_xyxy)
    return f"x {left} to {right}, y {top} to {bottom} of image {face.image_index}"
