"""Fit masks to what is seen of a face: hair, beard, hat and hands before it stay in the photograph.

Skin is what looks like the cheeks and the bridge of the nose. What is not skin and reaches into the mask from its rim is left
out; what skin surrounds (lips, nostrils, a mole) is part of the face.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .images import crop_faces, crop_landmarks, cut, lay_masks
from .masks import MaskSettings, draw_masks
from .ovals import EYES, MOUTH, SKIN
from .texture import gaussian_blur
from .types import Faces

CROP_PX = 256
FACES_AT_A_TIME = 8
"""Faces whose masks are fitted together."""
GRID = 64
"""Side of the grid on which skin is told from the rest."""
PATCH = 0.09
"""Half the side of the patches that show what skin looks like, in distances between the eyes."""
MAX_TINT = 0.28
"""Largest difference of colour over brightness from that of the patches."""
MIN_SHADE, MAX_SHADE = 0.45, 1.9
"""Brightness of skin over that of the patches: shadows and highlights count, dark hair does not."""
DARK = 0.05
"""Brightness below which a colour says little."""
MIN_CHEEKS = 0.85
"""Part of the cheeks that has to be skin for the outline to be believed; half a face in shadow is still a face."""
RIM_PART = 12
"""Faces are compared along the rim of a mask, over this part of the side."""
BETWEEN_TEMPLES = 0.19
"""Half the width of what brows and lashes may fill of the eyes' oval, as a fraction of the side; beyond it they are hair."""
TORN = 3.0
"""Hair beside the eyes counts for so much more: what lies so near to them is not left out."""
SOFTNESS = 0.02
"""Standard deviation of the blur that softens an outline, as a fraction of the side."""


def fit_masks(images: Tensor, faces: Faces, settings: MaskSettings) -> Tensor:
    """Draw masks (see `masks.draw_masks`) and fit them to what is seen of every face.

    Args:
        images: (B, 3, H, W) in [0, 1].
        faces: Faces found in them.
        settings: The region, which is never left.

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    whole = draw_masks(faces, settings)[:, None]
    if not faces.items:
        return whole
    laid = torch.zeros_like(whole)
    for first in range(0, len(faces), FACES_AT_A_TIME):
        originals, crops = crop_faces(images, replace(faces, items=faces.items[first : first + FACES_AT_A_TIME]), CROP_PX)
        lay_masks(fit_to_skin(originals, crop_landmarks(crops), cut(whole, crops)), crops, whole, laid)
    return laid


def fit_to_skin(crops: Tensor, landmarks5: Tensor, mask: Tensor) -> Tensor:
    """Take away from masks of aligned crops what is not seen of the face.

    Args:
        crops: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.
        mask: (N, 1, S, S) in [0, 1].

    Returns:
        (N, 1, S, S), nowhere above the mask. Where the cheeks are not seen as skin, in hard shadow for example, it is the mask.
    """
    side = crops.shape[-1]
    covered = find_covered(crops, landmarks5, mask)
    believed = _share(~covered, SKIN.on_grid(GRID)) >= MIN_CHEEKS
    region = F.adaptive_avg_pool2d(mask, GRID) > 0.0
    free = F.max_pool2d((covered & believed).float(), 3, stride=1, padding=1) < 1.0
    free = F.interpolate((free & region).float(), size=(side, side), mode="bilinear", align_corners=False)
    soft = (gaussian_blur(free, SOFTNESS * side) * 2.0 - 1.0).clamp(0.0, 1.0)
    return torch.where(believed, torch.minimum(mask, soft), mask)


def leave_out_covered(pictures: Tensor, references: Tensor, landmarks5: Tensor, mask: Tensor) -> Tensor:
    """Give references back where hair, a hat or a background comes into a mask with pictures of other faces.

    What skin surrounds in a reference (the end of a brow, a mole) is never given back: it is the person's.

    Args:
        pictures: (V * N, 3, S, S) in [0, 1], variant by variant, faces aligned with those of the references.
        references: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.
        mask: (N, 1, S, S) in [0, 1], how much of the pictures will be taken.

    Returns:
        (V * N, 3, S, S) in [0, 1]; taken by the mask, they show what the pictures would show in a mask of their own faces.
    """
    rounds = len(pictures) // len(references)
    whole = mask.cpu().repeat(rounds, 1, 1, 1)
    fitted = fit_to_skin(pictures.cpu(), landmarks5.cpu().repeat(rounds, 1, 1), whole)
    part = torch.where(whole > 0.0, fitted / whole.clamp(min=1e-6), 1.0)
    own = _features(references.cpu(), landmarks5.cpu(), mask.cpu()).float()
    own = F.interpolate(own, size=mask.shape[-2:], mode="bilinear", align_corners=False)
    part = torch.maximum(part, own.repeat(rounds, 1, 1, 1)).to(pictures)
    return part * pictures + (1.0 - part) * references.to(pictures).repeat(rounds, 1, 1, 1)


def _features(crops: Tensor, landmarks5: Tensor, mask: Tensor) -> Tensor:
    """Say where crops show what is neither skin nor reaches into a mask from its rim, (N, 1, GRID, GRID) bool."""
    skin = F.adaptive_avg_pool2d(find_skin(crops, landmarks5), GRID) > 0.75
    inside = F.adaptive_avg_pool2d(mask, GRID) > 0.0
    found = (inside & ~skin & ~reach_in(~skin, ~inside)).float()
    return F.max_pool2d(found, 3, stride=1, padding=1) > 0.0


def find_covered(crops: Tensor, landmarks5: Tensor, mask: Tensor) -> Tensor:
    """Return where hair, beard and the like reach into a mask, (N, 1, GRID, GRID) bool. Arguments as for `fit_to_skin`."""
    return _reached(_skin_cells(crops, landmarks5), F.adaptive_avg_pool2d(mask, GRID) > 0.0)


def _skin_cells(crops: Tensor, landmarks5: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(find_skin(crops, landmarks5), GRID) > 0.5


def _reached(skin: Tensor, region: Tensor) -> Tensor:
    """Return where something else than skin reaches into a region, (N, 1, GRID, GRID) bool like the arguments."""
    eyes, mouth = EYES.on_grid(GRID), MOUTH.on_grid(GRID)
    covered = reach_in(~skin & ~eyes, ~region) & region & ~eyes
    has_mouth = _share(~covered, mouth) >= 0.5  # a mouth is the person's or the new face's, never half of each
    return torch.where(has_mouth, covered & ~mouth, covered | mouth)


def outline_misfit(pictures: Tensor, references: Tensor, landmarks5: Tensor, mask: Tensor) -> Tensor:
    """Say how badly the outlines of faces fit: hair or beard that comes in with a picture, or that ends at the rim of the mask.

    Args:
        pictures: (V * N, 3, S, S) in [0, 1], variant by variant, faces aligned with those of the references.
        references: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.
        mask: (N, 1, S, S) in [0, 1], how much of the pictures will be taken.

    Returns:
        (V * N,) area that does not fit over that of the rim.
    """
    rounds = len(pictures) // len(references)
    places, taken = landmarks5.repeat(rounds, 1, 1), F.adaptive_avg_pool2d(mask, GRID).repeat(rounds, 1, 1, 1)
    skin = _skin_cells(pictures.cpu(), places)
    ours, theirs = _reached(skin, taken > 0.0), find_covered(references, landmarks5, taken[: len(mask)])
    theirs = theirs.repeat(rounds, 1, 1, 1)
    reach = 2 * (GRID // RIM_PART) + 1
    rim = F.max_pool2d(1.0 - taken, reach, stride=1, padding=reach // 2) * taken
    beside = EYES.on_grid(GRID) & ~replace(EYES, radius_x=BETWEEN_TEMPLES).on_grid(GRID)
    torn = beside & (taken > 0.5) & ~skin
    misfit = (ours & ~theirs) * taken + (theirs & ~ours) * rim + TORN * torn
    return misfit.sum((1, 2, 3)) / rim.sum((1, 2, 3)).clamp(min=1e-6)


def find_skin(crops: Tensor, landmarks5: Tensor) -> Tensor:
    """Say where aligned crops show skin, (N, 1, S, S), 0 or 1. Arguments as for `fit_to_skin`."""
    found = []
    for crop, points in zip(crops, landmarks5.double(), strict=True):
        patches = _skin_patches(crop, points)
        brightness, shade = crop.mean(0), patches.mean(0)
        tint, usual = crop / (brightness + DARK), (patches / (shade + DARK)).median(dim=1).values
        ratio = brightness / shade.median().clamp(min=DARK)
        is_tint = (tint - usual[:, None, None]).abs().amax(0) < MAX_TINT
        found.append(is_tint & (ratio > MIN_SHADE) & (ratio < MAX_SHADE))
    return torch.stack(found)[:, None].float()


def _skin_patches(crop: Tensor, points: Tensor) -> Tensor:
    """Return the pixels (3, P) of both cheeks and of the bridge of the nose."""
    eyes, nose, mouth = points[:2], points[2], points[3:]
    half = max(1, round(PATCH * float((eyes[1] - eyes[0]).norm())))
    cheeks = (eyes + mouth) / 2
    cheeks = cheeks + 0.15 * (cheeks - nose)
    bridge = nose + 0.25 * (eyes.mean(0) - nose)
    spots = torch.stack([*cheeks, bridge]).round().long().clamp(half, crop.shape[-1] - 1 - half)
    return torch.cat([crop[:, y - half : y + half + 1, x - half : x + half + 1].flatten(1) for x, y in spots.tolist()], dim=1)


def reach_in(passable: Tensor, start: Tensor) -> Tensor:
    """Spread from a start through what is passable, eight neighbours at a time; all (N, 1, h, w) bool."""
    reached, allowed = start.float(), (passable | start).float()
    while True:
        further = F.max_pool2d(reached, 3, stride=1, padding=1) * allowed
        if torch.equal(further, reached):
            return reached > 0.0
        reached = further


def _share(values: Tensor, where: Tensor) -> Tensor:
    """Return the part of a place (1, 1, h, w) that values (N, 1, h, w) hold, (N, 1, 1, 1)."""
    return (values & where).sum((2, 3), keepdim=True) / where.sum()
