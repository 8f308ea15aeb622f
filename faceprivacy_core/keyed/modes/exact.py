"""Mode `exact`: the pixels themselves are sealed, and come back without a model."""

from __future__ import annotations

from ...protocols import Progress
from ...types import Picture
from ..header import FaceHeader
from ..mode_names import RecoveryMode
from ..models import KeyedModel
from ..payloads import read_packed_pixels, read_pixels, restore_pixels, write_pixels
from .mode import ClosedFace, NewFace
from .sealed import SealedMode


class Exact(SealedMode):
    """Every bit comes back."""

    name, needs_model = RecoveryMode.EXACT, False

    def identify(self, model: KeyedModel) -> tuple[str, str]:
        return "", ""

    def fits(self, header: FaceHeader, model: KeyedModel) -> bool:
        return True

    def payload(self, face: NewFace) -> bytes:
        return write_pixels(face.original, face.claim)

    def restore(self, face: ClosedFace, pixels: Picture, model: KeyedModel | None, progress: Progress | None) -> Picture:
        read = read_pixels if face.header.version > 1 else read_packed_pixels
        return restore_pixels(pixels, face.claim, read(face.payload, face.claim))

    def promise(self, cover_psnr: float, bound_psnr: float | None) -> float:
        return float("inf")
