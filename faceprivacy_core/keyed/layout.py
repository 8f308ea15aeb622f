"""Where new keyed faces lie in a picture, and what of it is public."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..images import cut, place_crop, share_mask
from ..pixels import to_tensor
from ..types import Face, FaceCrops, Faces
from .derivation import FaceKey
from .fill import remove_faces
from .header import FaceHeader
from .models import KeyedModel
from .modes import MODES
from .modes.mode import NewFace
from .picture import KeyedPicture, Picture, region_of
from .regions import DEFAULT_CELL, Claim, Region, choose_cells, claim_pixels, claimed_pixels, cut_crop


@dataclass(frozen=True, eq=False)
class Layout:
    """N new faces in a picture.

    Attributes:
        original: (H, W, 3) uint8.
        faces, regions, claims: N each.
        first: Number of the first new face in the keyed picture.
        filled: (1, 3, H, W) in [0, 1], the picture with every keyed face filled from its surroundings, public; None without
            a model.
        surroundings: (N, C, h, w) latents of the crops without any keyed face, public; None
            without a model.
        latents: (N, C, h, w) latents of the crops with their own face alone, secret; None
            without a model.
    """

    original: Picture
    faces: tuple[Face, ...]
    regions: tuple[Region, ...]
    claims: tuple[Claim, ...]
    first: int
    filled: Tensor | None
    surroundings: Tensor | None
    latents: Tensor | None

    def face(self, index: int, header: FaceHeader, key: FaceKey) -> NewFace:
        """Return one of the new faces for its mode."""
        surroundings, latent = (
            None if latents is None else latents[index : index + 1] for latents in (self.surroundings, self.latents)
        )
        return NewFace(
            header, key, self.original, self.regions[index], self.claims[index], self.filled, surroundings, latent
        )  # fmt: skip


def lay_out(picture: KeyedPicture, faces: Faces, mask: Tensor, model: KeyedModel | None, crop_size: int) -> Layout:
    """Place the crops of new faces, choose their cells and encode them.

    Args:
        picture: The picture, perhaps with keyed faces.
        faces: The new faces.
        mask: (1, 1, H, W) in [0, 1], what must be hidden.
        model: Encodes; its crop size is used. May be None.
        crop_size: Side of the crops without a model, pixels.

    Raises:
        NoFaceError: The mask leaves nothing of a face.
        InputError: Mask and faces do not go together, or faces disturb one another.
    """
    height, width = picture.pixels.shape[:2]
    size, cell = (crop_size, DEFAULT_CELL) if model is None else (model.crop_size, model.factor)
    crops = FaceCrops(tuple(place_crop(face, size) for face in faces.items), faces, size=size)
    regions = []
    for index, share in enumerate(share_mask(crops, mask)):
        cells = choose_cells(cut(share.whole(height, width)[None], _alone(crops, index)), cell)
        regions.append(Region(size, crops.items[index].crop_to_image, cells))
    earlier = [region_of(header) for header in picture.headers]
    claims = claim_pixels([*earlier, *regions], height, width)
    own = tuple(claims[len(earlier) :])
    _check_disturbance(picture, earlier, own)
    filled = surroundings = latents = None
    if model is not None:
        filled = remove_faces(picture.pixels, claims)
        surroundings = torch.cat([model.encode(cut_crop(filled, region)) for region in regions])
        shown = [_with_one_face(filled, picture.pixels, claim) for claim in own]
        latents = torch.cat([model.encode(cut_crop(one, region)) for one, region in zip(shown, regions, strict=True)])
    return Layout(picture.pixels, faces.items, tuple(regions), own, len(earlier), filled, surroundings, latents)


def _alone(crops: FaceCrops, index: int) -> FaceCrops:
    """Return one crop of several as if its face were the only one."""
    crop = crops.items[index]
    return FaceCrops((crop,), replace(crops.faces, items=(crop.face,)), size=crops.size)


def _with_one_face(filled: Tensor, pixels: Picture, claim: Claim) -> Tensor:
    """Put one face back: whoever opens it must not see its neighbour, who may have another key."""
    shown, owned = filled.clone(), torch.from_numpy(claim.owned)
    original = to_tensor(pixels[claim.rows, claim.columns])[0]
    shown[0, :, claim.rows, claim.columns][:, owned] = original[:, owned]
    return shown


def _check_disturbance(picture: KeyedPicture, earlier: Sequence[Region], claims: Sequence[Claim]) -> None:
    """Refuse faces that lie in the surroundings on which an earlier face's recovery depends."""
    height, width = picture.pixels.shape[:2]
    new = claimed_pixels(claims, height, width)
    for header, region in zip(picture.headers, earlier, strict=True):
        if not MODES[header.mode].needs_surroundings:
            continue
        (crop,) = claim_pixels([replace(region, cells=np.ones_like(region.cells))], height, width)
        if bool((new[crop.rows, crop.columns] & crop.owned).any()):
            raise InputError(
                f"Expected faces apart from each other, got one beside a face in mode {header.mode.value}, whose recovery "
                "needs its surroundings unchanged. Encrypt both at once, or use mode latent."
            )
