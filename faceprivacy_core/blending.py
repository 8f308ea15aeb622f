"""Fit drawn faces into the photograph around them: its light, and no seam."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .images import Enlarge, check_mask, check_results, crop_landmarks, cut, paste_faces
from .outlines import leave_out_covered
from .ovals import SKIN
from .texture import gaussian_blur
from .types import FaceCrops

LIGHT_CELLS = 4
"""Light is compared as averages over a grid of 4 x 4: coarser than any feature of a face, fine enough for a lit cheek."""
MAX_GAIN = 1.8
SEAM_RIM = 0.5
"""The seam is compared where less than this part of the mask is taken from the drawn face."""
SEAM_BLUR = 0.008
"""Standard deviation of the blur before the seam is compared, as a fraction of the side: hairs are no seam."""
MAX_SEAM = 0.2
"""A difference above this is hair against skin or skin against background, which nothing shall carry into the face."""
SKIN_SPREAD = 0.22
"""Largest difference from the mean colour of the cheeks at which a pixel counts as skin, and no beard or hair."""
SKIN_TINT = 0.07
"""As much without what is alike in all colours: leaves may be as bright as skin."""
INSIDE_FROM, INSIDE_BLUR = 0.05, 0.03
"""How far from the seam tone is set, and how softly that begins, as fractions of the side."""
TAKEN = 0.95
"""Share of a drawn face from which all of it counts as taken."""
MAX_TONE = 0.1
MIN_TONE = 0.02
"""Part of the crop in which skin has to be seen for a tone."""
KNOWN = 0.02
"""Weight at which a value counts half and what surrounds it the other half."""


def match_light(pictures: Tensor, references: Tensor, weight: Tensor) -> Tensor:
    """Give pictures the low frequencies of references, colour by colour, as a gain of at most MAX_GAIN.

    Args:
        pictures: (B, 3, S, S) in [0, 1], faces aligned with those of the references.
        references: (B, 3, S, S) in [0, 1].
        weight: (1, 1, S, S) or (B, 1, S, S), 1 on skin; beyond it the gain goes on as at the nearest skin.

    Returns:
        (B, 3, S, S) in [0, 1].
    """
    weight = weight.to(pictures)
    share = F.adaptive_avg_pool2d(weight, LIGHT_CELLS).expand(len(pictures), -1, -1, -1)

    def light(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images * weight, LIGHT_CELLS) / share.clamp(min=1e-6)

    gain = light(references).clamp(min=0.02) / light(pictures).clamp(min=0.02)
    gain = spread_out(gain.log(), share * (share > 0.1))
    gain = F.interpolate(gain, size=pictures.shape[-2:], mode="bicubic", align_corners=False).exp()
    return (pictures * gain.clamp(1.0 / MAX_GAIN, MAX_GAIN)).clamp(0.0, 1.0)


def match_seam(pictures: Tensor, references: Tensor, mask: Tensor) -> Tensor:
    """Shift the colours of pictures so that they meet references where the mask ends.

    The difference along the rim is carried smoothly into the inside, as in the membrane of Pérez et al. 2003 (Poisson
    image editing, equation 8), but only where both sides show the same thing.

    Args:
        pictures: (V * N, 3, S, S) in [0, 1], variant by variant.
        references: (N, 3, S, S) in [0, 1].
        mask: (N, 1, S, S) in [0, 1], how much of the pictures will be taken.

    Returns:
        (V * N, 3, S, S) in [0, 1].
    """
    difference, known = seam(pictures, references, mask)
    return (pictures + spread_out(difference, known)).clamp(0.0, 1.0)


def keep_tone(pictures: Tensor, references: Tensor, mask: Tensor, skin: Tensor) -> Tensor:
    """Shift the colours of pictures well inside a mask so that their skin is on average that of the references.

    What light is matched by, cheeks and seams, is not all of a face: without it new faces were up to a tenth lighter or darker.

    Args:
        pictures: (V * N, 3, S, S) in [0, 1], variant by variant.
        references: (N, 3, S, S) in [0, 1].
        mask: (N, 1, S, S) in [0, 1]; nothing is shifted where it ends.
        skin: (V * N, 1, S, S), 1 where pictures and references both show skin.

    Returns:
        (V * N, 3, S, S) in [0, 1].
    """
    side = mask.shape[-1]
    reach = 2 * round(INSIDE_FROM * side) + 1
    padded = F.pad((mask < TAKEN).float(), (reach // 2,) * 4, value=1.0)
    inside = gaussian_blur(1.0 - F.max_pool2d(padded, reach, stride=1), INSIDE_BLUR * side)
    inside = _repeat(inside, pictures)
    seen = inside * skin.to(pictures)
    area = seen.sum((2, 3), keepdim=True)
    shift = ((_repeat(references, pictures) - pictures) * seen).sum((2, 3), keepdim=True) / area.clamp(min=1.0)
    shift = torch.where(area < MIN_TONE * side**2, 0.0, shift.clamp(-MAX_TONE, MAX_TONE))
    return (pictures + inside * shift).clamp(0.0, 1.0)


def add_change(pictures: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Add to pictures (N, 3, S, S) in [0, 1] what a model changed, so that its autoencoder takes nothing from them.

    Args:
        pictures: What was encoded.
        after: (V * N, 3, S, S) in [0, 1], decoded after the change, variant by variant.
        before: (N, 3, S, S) in [0, 1], decoded before it.
    """
    return (_repeat(pictures, after) + after - _repeat(before, after)).clamp(0.0, 1.0)


def paste_blended(
    images: Tensor, results: Tensor, crops: FaceCrops, mask: Tensor, *, enlarge: Enlarge | None = None
) -> Tensor:  # fmt: skip
    """Put changed crops back with their colours matched along the seam, without hair or background that comes in with them, and
    their sharpness matched to the picture.

    Arguments and errors as for `images.paste_faces`; crops of another size than they were cut at are resampled first.
    """
    check_mask(images, mask)
    check_results(results, crops)
    if results.shape[-1] != crops.size:
        results = F.interpolate(results, size=(crops.size, crops.size), mode="bicubic", antialias=True).clamp(0.0, 1.0)
    originals, taken = cut(images, crops), cut(mask, crops)
    fitted = match_seam(results, originals, taken)
    fitted = leave_out_covered(fitted, originals, crop_landmarks(crops), taken)
    return paste_faces(images, fitted, crops, mask, sharpen=True, enlarge=enlarge)


def seam(pictures: Tensor, references: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Compare pictures with references along the rim of a mask. Arguments as for `match_seam`.

    Returns:
        What would have to be added to the pictures (V * N, 3, S, S), and where that is known (V * N, 1, S, S).
    """
    references, rim = (_repeat(values, pictures) for values in (references, _rim(mask)))
    sigma = SEAM_BLUR * pictures.shape[-1]
    weight = gaussian_blur(rim, sigma)
    difference = gaussian_blur((references - pictures) * rim, sigma) / weight.clamp(min=1e-6)
    is_small = difference.abs().amax(1, keepdim=True) < MAX_SEAM
    return difference, rim * weight * is_small * _is_skin(pictures) * _is_skin(references)


def _rim(mask: Tensor) -> Tensor:
    return ((mask > 0.0) & (mask < SEAM_RIM)).float()


def _repeat(values: Tensor, pictures: Tensor) -> Tensor:
    return values.to(pictures).repeat(len(pictures) // len(values), 1, 1, 1)


def _is_skin(images: Tensor) -> Tensor:
    cheeks = SKIN.on_grid(images.shape[-1]).to(images)
    skin = (images * cheeks).sum((2, 3), keepdim=True) / cheeks.sum()
    difference = images - skin
    tint = difference - difference.mean(1, keepdim=True)
    return (difference.abs().amax(1, keepdim=True) < SKIN_SPREAD) & (tint.abs().amax(1, keepdim=True) < SKIN_TINT)


def seam_misfit(pictures: Tensor, references: Tensor, mask: Tensor, skin: Tensor) -> Tensor:
    """Say how much a seam shows: difference along the rim over its length, (V * N,).

    Args:
        pictures, references, mask: See `match_seam`.
        skin: (N, 1, S, S), 1 where the references show skin. Where a mask ends at hair or background there is an edge anyway.
    """
    difference, _ = seam(pictures, references, mask)
    difference, rim = difference.abs(), _repeat(_rim(mask), pictures)
    seen = rim * _repeat(skin, pictures) * (difference.amax(1, keepdim=True) < MAX_SEAM)
    return (difference.mean(1, keepdim=True) * seen).sum((1, 2, 3)) / rim.sum((1, 2, 3)).clamp(min=1.0)


def spread_out(values: Tensor, weight: Tensor) -> Tensor:
    """Fill values (B, C, h, w) in smoothly where their weight (B, 1, h, w) is 0; all 0 where no weight is anywhere.

    Source: Gortler et al. 1996, The Lumigraph, section 3.4.2 (pull-push).
    """
    if max(values.shape[-2:]) == 1:
        return values * (weight > 0)
    halved = [F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in (values * weight, weight)]
    coarse = spread_out(halved[0] / halved[1].clamp(min=1e-12), halved[1])
    around = F.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    trust = weight / (weight + KNOWN)
    return trust * values + (1.0 - trust) * around
