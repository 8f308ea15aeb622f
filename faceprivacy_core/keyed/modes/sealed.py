"""Modes that seal the original itself, so that the cover knows nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...protocols import Progress
from ...types import Picture
from ..covers import draw_independent
from ..header import Bind, Cover
from ..models import KeyedModel
from ..regions import paste
from .mode import Mode, NewFace


class SealedMode(Mode):
    """Covers from secret noise, blended into the picture as it is."""

    cover, bind = Cover.INDEPENDENT, Bind.PICTURE

    def draw(self, faces: Sequence[NewFace], model: KeyedModel, progress: Progress | None) -> list[tuple[Tensor, bytes]]:
        latents = draw_independent(
            model,
            torch.cat([face.surroundings for face in faces]),
            torch.cat([face.region.latent_mask() for face in faces]),
            [face.key for face in faces],
            [face.header.nonce for face in faces],
            faces[0].header.steps,
            progress,
        )
        return [(latent[None], self.payload(face)) for latent, face in zip(latents, faces, strict=True)]

    def show(self, face: NewFace, base: Picture, layer: Tensor) -> Picture:
        return paste(base, layer, face.claim, soft=True)
