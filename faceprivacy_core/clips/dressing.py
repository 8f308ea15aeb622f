"""Put the new faces of people into one frame after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..align import invert_affine, warp
from ..blending import match_light, match_seam
from ..candidates import MARGIN
from ..errors import NumericalError
from ..faces.by_hand import is_guessed
from ..images import crop_faces, eye_mouth_distance, paste_faces
from ..masks import MaskSettings, Region, draw_masks
from ..metrics.similarity import compute_similarity, cut_window
from ..obscure import Obscuring, obscure_faces
from ..ovals import SKIN
from ..pixels import to_pixels, to_tensor
from ..protect import FALSE_MATCH_RATE, Fallback, Method, ProtectSettings
from ..protocols import FaceRecognizer
from ..types import Face, FaceCrop, FaceCrops, Faces, FloatArray, Picture
from .looks import NewLook

LIGHT_MEMORY = 0.6
"""Part of the light of the frames before that is kept: light changes slowly, what passes before a face does not."""


@dataclass(frozen=True, eq=False)
class Dressed:
    """One protected frame.

    Attributes:
        picture: (H, W, 3) uint8.
        mask: (H, W) float32, above 0 where pixels were replaced.
        methods: What stands in place of every face, in the order of the faces.
    """

    picture: Picture
    mask: np.ndarray
    methods: tuple[str, ...]


class Dresser:
    """Protects the faces of frames that come one after the other; a person keeps their new face.

    Args:
        looks: New face of every person; people without one are hidden by the fallback.
        recognizers: Look at every drawn face; one that they still know is drawn over more of the head, then hidden.
        settings: Method, fallback and region.
        fill: Whether a new face is drawn where none was seen, too; otherwise the fallback stands there.
    """

    def __init__(
        self,
        looks: Mapping[int, NewLook],
        recognizers: Sequence[FaceRecognizer],
        settings: ProtectSettings,
        *,
        fill: bool = True,
    ) -> None:
        self._looks = looks
        self._recognizers = recognizers
        self._settings = settings
        self._fill = fill
        self._light: dict[int, Tensor] = {}
        self._wider: dict[int, int] = {}

    def forget_light(self) -> None:
        """Begin another scene."""
        self._light = {}

    def dress(self, picture: Picture, faces: Sequence[Face]) -> Dressed:
        """Protect the given faces of a frame.

        Args:
            picture: (H, W, 3) uint8. Not modified.
            faces: Of this frame, each with its track.

        Raises:
            NumericalError: A face is still known, or there is no new one for it, and the fallback is an error.
        """
        images = to_tensor(picture)
        methods = [""] * len(faces)
        mask = torch.zeros_like(images[:, :1])
        if self._settings.method is not Method.NEW_FACE:
            how = Obscuring(self._settings.method.value)
            return self._hidden(images, images, mask, faces, range(len(faces)), how, methods, None)
        refused = [index for index, face in enumerate(faces) if not self._can_draw(face)]
        if refused and self._settings.fallback is Fallback.ERROR:
            raise _no_new_face(faces[refused[0]])
        done = Dressed(picture, np.zeros(picture.shape[:2], np.float32), ("",) * len(faces))
        heads = self._heads([face for face in faces if not is_guessed(face)], picture)
        # What was not seen lies behind what was: it is dealt with first, and never over a head that is seen.
        for is_filled in (True, False):
            chosen = [index for index, face in enumerate(faces) if is_guessed(face) == is_filled]
            done = self._protect(picture, done, faces, chosen, refused, heads if is_filled else None)
        return done

    def _can_draw(self, face: Face) -> bool:
        is_large = eye_mouth_distance(face) >= self._settings.min_eye_mouth_px
        return face.track in self._looks and is_large and (self._fill or not is_guessed(face))

    def _heads(self, seen: Sequence[Face], picture: Picture) -> Tensor:
        here = Faces(tuple(replace(face, image_index=0) for face in seen), 1, *picture.shape[:2])
        return draw_masks(here, MaskSettings(Region.HEAD))[:, None]

    def _protect(
        self, picture: Picture, before: Dressed, faces: Sequence[Face], chosen: Sequence[int], refused: Sequence[int],
        spared: Tensor | None,
    ) -> Dressed:  # fmt: skip
        """Draw the chosen faces over a result, and hide those that are refused or still known."""
        result, mask = to_tensor(before.picture), torch.from_numpy(before.mask)[None, None]
        draw = [index for index in chosen if index not in refused]
        result, mask, known = self._drawn(picture, result, mask, faces, draw, spared)
        if known and self._settings.fallback is Fallback.ERROR:
            raise _no_new_face(faces[known[0]])
        methods = [Method.NEW_FACE.value if index in draw else method for index, method in enumerate(before.methods)]
        hide = [index for index in chosen if index in refused or index in known]
        how = Obscuring.BLUR if self._settings.fallback is Fallback.ERROR else Obscuring(self._settings.fallback.value)
        return self._hidden(to_tensor(picture), result, mask, faces, hide, how, methods, spared)

    def _drawn(
        self, picture: Picture, result: Tensor, mask: Tensor, faces: Sequence[Face], chosen: list[int], spared: Tensor | None
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Draw some faces over a result; return it with its mask and the faces that must not stay so."""
        while chosen:
            here = Faces(tuple(replace(faces[index], image_index=0) for index in chosen), 1, *picture.shape[:2])
            owners = [self._looks[faces[index].track] for index in chosen]
            originals, crops = crop_faces(to_tensor(picture), here, owners[0].faces.shape[-1])
            numbers = [self._wider.get(face.track, 0) for face in here.items]
            soft = [look.mask_at(_pose(crop), number) for crop, look, number in zip(crops.items, owners, numbers, strict=True)]
            areas = [_laid(one, crop, picture) for one, crop in zip(soft, crops.items, strict=True)]
            area = torch.stack(areas).amax(dim=0)
            area = area if spared is None else area * (1.0 - spared)
            new = self._fitted(originals, crops, soft, owners)
            drawn = paste_faces(result, new, crops, area, sharpen=True)
            known = self._still_known(picture, to_pixels(drawn), here)
            known = [chosen[place] for place in known]
            again = [index for index in known if self._wider.get(faces[index].track, 0) < self._most(faces[index])]
            if not again:
                return drawn, torch.maximum(mask, area), known
            for index in again:
                track = faces[index].track
                self._wider[track] = self._wider.get(track, 0) + 1  # for good: a mask that comes and goes would flicker
        return result, mask, []

    def _most(self, face: Face) -> int:
        return len(self._looks[face.track].masks) - 1

    def _fitted(self, originals: Tensor, crops: FaceCrops, masks: Sequence[Tensor], looks: Sequence[NewLook]) -> Tensor:
        """Bend the new faces to the places and the light of a frame, (N, 3, S, S)."""
        fitted = []
        for place, (crop, look) in enumerate(zip(crops.items, looks, strict=True)):
            own = originals[place : place + 1]
            new = look.at(_pose(crop))[None].to(own)
            lit = match_light(new, self._light_of(crop.face, own), SKIN.on_grid(own.shape[-1]))
            fitted.append(lit if is_guessed(crop.face) else match_seam(lit, own, masks[place][None].to(own)))
        return torch.cat(fitted)

    def _light_of(self, face: Face, own: Tensor) -> Tensor:
        """Return what a new face takes its light from: the person of the last frames."""
        before = self._light.get(face.track)
        if is_guessed(face):
            return own if before is None else before
        self._light[face.track] = own if before is None else LIGHT_MEMORY * before + (1.0 - LIGHT_MEMORY) * own
        return self._light[face.track]

    def _still_known(self, before: Picture, after: Picture, faces: Faces) -> list[int]:
        """Return the places of the faces that a recogniser takes for the person of the original frame."""
        known = []
        for place, face in enumerate(faces.items):
            original, drawn = (cut_window(picture, face.landmarks5) for picture in (before, after))
            rates = (
                (compute_similarity(original, [drawn], one), one.thresholds[FALSE_MATCH_RATE]) for one in self._recognizers
            )
            if not is_guessed(face) and any(similarity >= limit - MARGIN for similarity, limit in rates):
                known.append(place)
        return known

    def _hidden(
        self, images: Tensor, result: Tensor, mask: Tensor, faces: Sequence[Face], chosen: Sequence[int], how: Obscuring,
        methods: Sequence[str], spared: Tensor | None,
    ) -> Dressed:  # fmt: skip
        """Hide the chosen faces on top of a result; what is hidden is the original."""
        here = Faces(tuple(replace(faces[index], image_index=0) for index in chosen), 1, *images.shape[-2:])
        hidden, area = obscure_faces(images, here, how, self._settings.drawing.mask)
        area = area if spared is None else area * (spared < 0.5)
        done = [how.value if index in chosen else method for index, method in enumerate(methods)]
        merged = torch.where(area > 0, hidden, result)
        return Dressed(to_pixels(merged), torch.maximum(mask, area)[0, 0].numpy(), tuple(done))


def _no_new_face(face: Face) -> NumericalError:
    return NumericalError(
        f"Expected a new face for everybody, got none that is large enough, seen, and unknown to recognisers for person "
        f"{face.track} in frame {face.image_index}. Set the fallback to blur, mosaic or solid."
    )


def _pose(crop: FaceCrop) -> FloatArray:
    return (crop.landmarks5 + 0.5) / crop.size


def _laid(mask: Tensor, crop: FaceCrop, picture: Picture) -> Tensor:
    """Lay a mask of a crop (1, S, S) into the picture, (1, 1, H, W)."""
    to_crop = invert_affine(crop.crop_to_image)
    return warp(mask[None], to_crop, picture.shape[:2], padding="zeros").clamp(0.0, 1.0)
