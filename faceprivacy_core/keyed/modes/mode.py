"""What a keyed mode does: one object for each way in which originals come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ...protocols import Progress
from ...types import Picture
from ..derivation import FaceKey
from ..header import Bind, Cover, FaceHeader
from ..mode_names import RecoveryMode
from ..models import KeyedModel
from ..picture import KeyedPicture, region_of
from ..regions import Claim, Region, lay_crop, paste


@dataclass(frozen=True, slots=True, eq=False)
class NewFace:
    """One face that is being encrypted.

    Attributes:
        header, key: Of this face.
        original: (H, W, 3) uint8, the picture; secret.
        region, claim: Where the face lies.
        filled: (1, 3, H, W) in [0, 1], the picture without any keyed face, public; None without a model.
        surroundings: (1, C, h, w) latent of this face's crop of that, public; None without a model.
        latent: (1, C, h, w) latent of the crop with this face alone, secret; None without a model.
    """

    header: FaceHeader
    key: FaceKey = field(repr=False)
    original: Picture = field(repr=False)
    region: Region
    claim: Claim
    filled: Tensor | None = field(repr=False)
    surroundings: Tensor | None = field(repr=False)
    latent: Tensor | None = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ClosedFace:
    """One face whose original is being brought back.

    Attributes:
        picture: The published picture.
        number: Of the face in it.
        key: Of the face.
        payload: What was sealed for it.
    """

    picture: KeyedPicture
    number: int
    key: FaceKey = field(repr=False)
    payload: bytes = field(repr=False)

    @property
    def header(self) -> FaceHeader:
        return self.picture.headers[self.number]

    @property
    def claim(self) -> Claim:
        return self.picture.claims[self.number]

    @property
    def region(self) -> Region:
        return region_of(self.header)

    def put_crop(self, crop: Tensor, pixels: Picture) -> Picture:
        """Put the original crop (1, 3, S, S) in [0, 1] into a picture, which is not modified."""
        return paste(pixels, lay_crop(crop, self.region, self.claim), self.claim, soft=False)


class Mode(ABC):
    """One way in which originals come back. `encrypt`, `decrypt`, `layout` and `self_check` ask it and tell no modes apart.

    Attributes:
        name: In headers.
        cover: Where the visible face comes from, if no other method made it.
        bind: What a payload is bound to unless something else is asked for.
        needs_model: Whether a face comes back by a model only.
        needs_surroundings: Whether a face comes back only while its whole crop stays as it is.
        inverts: Whether the header says how many fixed-point iterations were taken.
    """

    name: ClassVar[RecoveryMode]
    cover: ClassVar[Cover]
    bind: ClassVar[Bind]
    needs_model: ClassVar[bool] = True
    needs_surroundings: ClassVar[bool] = False
    inverts: ClassVar[bool] = False

    @abstractmethod
    def identify(self, model: KeyedModel) -> tuple[str, str]:
        """Return the fingerprints of model and condition for the header, "" where any will do."""

    @abstractmethod
    def fits(self, header: FaceHeader, model: KeyedModel) -> bool:
        """Say whether a face comes back by this model."""

    @abstractmethod
    def payload(self, face: NewFace) -> bytes:
        """Return what is sealed of a face whose cover another method made; such covers are for modes not `in_noise`."""

    @abstractmethod
    def draw(self, faces: Sequence[NewFace], model: KeyedModel, progress: Progress | None) -> list[tuple[Tensor, bytes]]:
        """Return for every face the latent (1, C, h, w) of its cover, and what is sealed."""

    @abstractmethod
    def show(self, face: NewFace, base: Picture, layer: Tensor) -> Picture:
        """Put a drawn cover, (3, height, width) in [0, 1] for the claim's rectangle, into a picture, which is not modified."""

    @abstractmethod
    def restore(self, face: ClosedFace, pixels: Picture, model: KeyedModel | None, progress: Progress | None) -> Picture:
        """Put an original into a picture (H, W, 3), which is not modified; the model is one that `fits`."""

    def promise(self, cover_psnr: float, bound_psnr: float | None) -> float:
        """Say how well a face must come back, in dB.

        Args:
            cover_psnr: How near its cover is to it.
            bound_psnr: How near the autoencoder alone would come; None if not known.
        """
        return cover_psnr
