"""Cutting aligned face crops out of pictures and putting them back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .align import FFHQ_TEMPLATE, estimate_similarity, invert_affine, transform_points, warp
from .errors import InputError, NoFaceError
from .types import Face, FaceCrop, FaceCrops, Faces, FloatArray

MIN_EYE_MOUTH_PX = 5.0
"""Below this distance between eyes and mouth a face holds too few pixels to align."""

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
            f"{_describe_box(face)}. Enlarge the picture, or leave this face out by choosing faces and blur it."
        )
    template = FFHQ_TEMPLATE * size - 0.5
    crop_to_image = estimate_similarity(template, face.landmarks5)
    landmarks = transform_points(invert_affine(crop_to_image), face.landmarks5)
    return FaceCrop(face, size, crop_to_image, landmarks)


def crop_faces(images: Tensor, faces: Faces, size: int) -> tuple[Tensor, FaceCrops]:
    """Cut an aligned square crop for every face.

    Args:
        images: (B, C, H, W) float pictures (or masks, C = 1). Not modified.
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
        raise NoFaceError("Expected at least one face to crop, got none. Check the Face Mask settings.")
    crops = FaceCrops(tuple(place_crop(face, size) for face in faces.items), faces, size=size)
    return cut(images, crops), crops


def cut(images: Tensor, crops: FaceCrops) -> Tensor:
    """Resample placed crops from pictures of the same size, (N, C, size, size)."""
    _check_same_pictures(images, crops.faces)
    size = (crops.size, crops.size)
    cuts = [warp(images[crop.face.image_index][None], crop.crop_to_image, size) for crop in crops.items]
    return torch.cat(cuts)


def crop_landmarks(crops: FaceCrops) -> Tensor:
    """Return the landmarks of all crops in crop pixels, (N, 5, 2) float32."""
    return torch.from_numpy(np.stack([crop.landmarks5 for crop in crops.items])).float()


def paste_faces(images: Tensor, results: Tensor, crops: FaceCrops, mask: Tensor) -> Tensor:
    """Put changed crops back at full resolution.

    Args:
        images: (B, 3, H, W) pictures in [0, 1]. Not modified.
        results: (V * N, 3, S, S) changed crops in [0, 1], variant by variant; S may differ
            from the size of the crops.
        crops: Placement of the N crops.
        mask: (B, 1, H, W) in [0, 1], where and how strongly a picture is replaced.

    Returns:
        (V * B, 3, H, W). Where the mask is 0 every value is exactly that of `images`.
        Where faces overlap, each pixel goes to the face it is nearer to.

    Raises:
        InputError: Counts or sizes do not fit, values are not finite, or the mask marks
            pixels that no crop covers (they would stay unprotected).
    """
    _check_same_pictures(images, crops.faces)
    num_faces = len(crops)
    if num_faces == 0 or results.shape[0] % num_faces:
        raise InputError(
            f"Expected a multiple of {num_faces} changed crops (one for each face and variant), got {results.shape[0]}."
        )
    if results.shape[-1] != results.shape[-2]:
        raise InputError(f"Expected square crops, got {tuple(results.shape[-2:])}.")
    _check_mask_and_values(images, results, mask)
    weights = ownership_weights(crops, mask)
    variants = [_paste_variant(images, variant, crops, weights, mask) for variant in results.split(num_faces)]
    return torch.cat(variants)


def _paste_variant(images: Tensor, results: Tensor, crops: FaceCrops, weights: Tensor, mask: Tensor) -> Tensor:
    pasted = images.clone()
    scale = crops.size / results.shape[-1]
    for crop, result, weight in zip(crops.items, results, weights, strict=True):
        index = crop.face.image_index
        image_to_result = _rescale(invert_affine(crop.crop_to_image), 1.0 / scale)
        layer = warp(result[None], image_to_result, tuple(images.shape[-2:]))[0]
        blended = pasted[index] + weight * (layer - pasted[index])
        pasted[index] = torch.where(weight > 0, blended.clamp(0.0, 1.0), pasted[index])
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
        Where faces overlap, each pixel changes with the face it is nearer to.

    Raises:
        InputError: Counts or sizes do not fit, values are not finite, or the mask marks
            pixels that no crop covers (they would stay unprotected).
    """
    _check_same_pictures(images, crops.faces)
    if residuals.ndim != 4 or len(residuals) != len(crops) or residuals.shape[-1] != residuals.shape[-2]:
        raise InputError(f"Expected {len(crops)} square changes of crops, got a tensor {tuple(residuals.shape)}.")
    _check_mask_and_values(images, residuals, mask)
    pasted = images.clone()
    for crop, residual, weight in zip(crops.items, residuals, ownership_weights(crops, mask), strict=True):
        index = crop.face.image_index
        image_to_residual = _rescale(invert_affine(crop.crop_to_image), residual.shape[-1] / crop.size)
        layer = warp(residual[None], image_to_residual, tuple(images.shape[-2:]))[0]
        pasted[index] = torch.where(weight > 0, (pasted[index] + weight * layer).clamp(0.0, 1.0), pasted[index])
    return pasted


def ownership_weights(crops: FaceCrops, mask: Tensor) -> Tensor:
    """Share a mask out among the faces: each pixel goes to the face it is nearer to.

    Args:
        crops: Placement of N crops.
        mask: (B, 1, H, W) in [0, 1].

    Returns:
        (N, 1, H, W), falling to 0 over the rim of each crop.

    Raises:
        InputError: More than 2 % of the mask lies outside every crop and would stay unprotected.
    """
    height, width = mask.shape[-2:]
    y, x = np.mgrid[0:height, 0:width]
    distances, covers = [], []
    for crop in crops.items:
        inverse = invert_affine(crop.crop_to_image)
        u, v = ((row[0] * x + row[1] * y + row[2] + 0.5) / crop.size for row in inverse)
        border = np.minimum(np.minimum(u, 1.0 - u), np.minimum(v, 1.0 - v))
        covers.append(np.clip(border / RIM, 0.0, 1.0))
        distances.append(np.where(border > 0, np.hypot(u - 0.5, v - 0.55), np.inf))
    weights = torch.zeros(len(crops), 1, height, width, dtype=mask.dtype, device=mask.device)
    images_of = np.array([crop.face.image_index for crop in crops.items])
    for index in range(mask.shape[0]):
        members = np.flatnonzero(images_of == index)
        covered = torch.zeros(height, width, dtype=mask.dtype, device=mask.device)
        if len(members):
            nearest = members[np.argmin(np.stack([distances[m] for m in members]), axis=0)]
            for member in members:
                cover = torch.from_numpy(covers[member]).to(mask)
                covered = torch.maximum(covered, (cover > 0).to(mask))
                owned = torch.from_numpy(nearest == member).to(mask.device)
                weights[member, 0] = mask[index, 0] * cover * owned
        _check_covered(mask[index, 0], covered, index)
    return weights


def _check_mask_and_values(images: Tensor, values: Tensor, mask: Tensor) -> None:
    if mask.shape != (images.shape[0], 1, *images.shape[-2:]):
        raise InputError(f"Expected a mask of shape {(images.shape[0], 1, *images.shape[-2:])}, got {tuple(mask.shape)}.")
    if not bool(torch.isfinite(values).all()):
        raise InputError("Expected finite crops, got NaN or infinity. Sample in fp32 or lower the guidance strength.")


def _check_covered(mask: Tensor, covered: Tensor, index: int) -> None:
    total = float(mask.sum())
    missed = float((mask * (1.0 - covered)).sum())
    if missed > 0.02 * max(total, 1.0):
        raise InputError(
            f"Image {index}: {100 * missed / total:.0f} % of the mask lies outside every face crop and would stay "
            "unprotected. Use the mask of Face Mask with the same faces, or a smaller mask."
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
            "Connect the same image to Face Mask and to this node."
        )


def _describe_box(face: Face) -> str:
    left, top, right, bottom = (round(value) for value in face.bbox_xyxy)
    return f"x {left} to {right}, y {top} to {bottom} of image {face.image_index}"
