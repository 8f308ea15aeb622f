"""Mode `latent`: what the autoencoder makes of the face is sealed."""

from __future__ import annotations

from ...protocols import Progress
from ...types import Picture
from ..header import FaceHeader
from ..mode_names import RecoveryMode
from ..models import KeyedModel
from ..payloads import read_latent, write_latent
from .mode import ClosedFace, NewFace
from .sealed import SealedMode

TOLERANCE_DB = 0.5
"""By which a face may come back worse than from the autoencoder alone."""


class Latent(SealedMode):
    """The face comes back as well as the autoencoder draws it."""

    name = RecoveryMode.LATENT

    def identify(self, model: KeyedModel) -> tuple[str, str]:
        return model.vae_fingerprint(), ""

    def fits(self, header: FaceHeader, model: KeyedModel) -> bool:
        return header.model == model.vae_fingerprint()

    def payload(self, face: NewFace) -> bytes:
        assert face.latent is not None  # noqa: S101 - this mode has a model
        return write_latent(face.latent)

    def restore(self, face: ClosedFace, pixels: Picture, model: KeyedModel | None, progress: Progress | None) -> Picture:
        assert model is not None  # noqa: S101
        return face.put_crop(model.decode(read_latent(face.payload, *face.header.cells.shape)).detach(), pixels)

    def promise(self, cover_psnr: float, bound_psnr: float | None) -> float:
        return cover_psnr if bound_psnr is None else bound_psnr - TOLERANCE_DB
