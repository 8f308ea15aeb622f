"""Modes in which the original travels in the noise of its cover, and comes back from pixels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from ...errors import InputError
from ...pixels import to_pixels
from ...protocols import Progress
from ...types import Picture
from ..header import Bind, Cover, FaceHeader
from ..models import KeyedModel
from ..regions import paste
from .mode import ClosedFace, Mode, NewFace


class NoiseMode(Mode):
    """The way back repeats every step, by the same model under the same condition."""

    cover, bind = Cover.KEYED, Bind.SURROUNDINGS

    def identify(self, model: KeyedModel) -> tuple[str, str]:
        return model.model_fingerprint(), model.condition_fingerprint()

    def fits(self, header: FaceHeader, model: KeyedModel) -> bool:
        return header.model == model.model_fingerprint() and header.condition == model.condition_fingerprint()

    def payload(self, face: NewFace) -> bytes:
        raise InputError(f"Expected no cover in mode {self.name.value}, which makes its own. Use mode latent or exact.")

    def draw(self, faces: Sequence[NewFace], model: KeyedModel, progress: Progress | None) -> list[tuple[Tensor, bytes]]:
        return [self.hide(face, model, progress) for face in faces]

    def show(self, face: NewFace, base: Picture, layer: Tensor) -> Picture:
        assert face.filled is not None  # noqa: S101 - these modes have a model
        # Who reads the latent off the pixels must know what is behind the rim.
        return paste(to_pixels(face.filled), layer, face.claim.with_steep_rim(), soft=True)

    def restore(self, face: ClosedFace, pixels: Picture, model: KeyedModel | None, progress: Progress | None) -> Picture:
        assert model is not None  # noqa: S101
        return face.put_crop(model.decode(self.find(face, model, progress)).detach(), pixels)

    @abstractmethod
    def hide(self, face: NewFace, model: KeyedModel, progress: Progress | None) -> tuple[Tensor, bytes]:
        """Encrypt a face into the noise of its cover: latent (1, C, h, w) of the cover, and what is sealed."""

    @abstractmethod
    def find(self, face: ClosedFace, model: KeyedModel, progress: Progress | None) -> Tensor:
        """Undo `hide` from the published pixels: latent (1, C, h, w) of the original."""
