"""Mode `signflip`: the published rule, for comparison; not secure."""

from __future__ import annotations

from torch import Tensor

from ...pixels import to_tensor
from ...protocols import Progress
from ..header import Bind
from ..mode_names import RecoveryMode
from ..models import KeyedModel
from ..regions import cut_crop
from ..transports import flip_signs
from .in_noise import NoiseMode
from .mode import ClosedFace, NewFace


class SignFlip(NoiseMode):
    """The signs of the noise are flipped under the mask, and flipped again; nothing is sealed or promised."""

    name, bind = RecoveryMode.SIGNFLIP, Bind.NONE

    def hide(self, face: NewFace, model: KeyedModel, progress: Progress | None) -> tuple[Tensor, bytes]:
        latent = model.encode(cut_crop(to_tensor(face.original), face.region))
        return flip_signs(model, latent, face.region.latent_mask(), face.key, face.header.steps, progress), b""

    def find(self, face: ClosedFace, model: KeyedModel, progress: Progress | None) -> Tensor:
        visible, region = model.encode(cut_crop(to_tensor(face.picture.pixels), face.region)), face.region
        return flip_signs(model, visible, region.latent_mask(), face.key, face.header.steps, progress)

    def promise(self, cover_psnr: float, bound_psnr: float | None) -> float:
        return float("-inf")
