"""A published picture together with what brings its faces back."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from ..errors import FormatError, InputError, PictureSizeError
from ..types import Picture
from .container import KeyedFaceRecord, pack, unpack
from .derivation import FaceKey, SigningKey
from .header import Bind, FaceHeader
from .regions import DEFAULT_CELL, Claim, Region, claim_pixels, claimed_pixels
from .sealing import seal, seal_unmarked
from .signing import add_signature, set_digest

OPAQUE = 255
"""Alpha of a pixel through which nothing shows."""


@dataclass(frozen=True, slots=True, eq=False)
class UnsealedFace:
    """A face of this process whose payload is sealed when the container is written.

    Sealing waits, because payloads are bound to the pixels and to the other faces, and further faces
    may still be encrypted. Cannot be pickled, and shows nothing.

    Attributes:
        header: Public parameters.
        key: Of this face.
        signer: Signs for this face; not used with a decoy.
        payload: What brings the original back.
    """

    header: FaceHeader
    key: FaceKey = field(repr=False)
    signer: SigningKey = field(repr=False)
    payload: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class KeyedPicture:
    """A picture with keyed faces.

    Attributes:
        pixels: (H, W, 3) uint8, what everybody sees.
        faces: Its keyed faces in order: sealed ones from a file, unsealed ones of this process.
        alpha: (H, W) uint8, how opaque the pixels are; None where all are, and also when 255 was given everywhere.
    """

    pixels: Picture = field(repr=False)
    faces: tuple[KeyedFaceRecord | UnsealedFace, ...] = ()
    alpha: Picture | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise InputError(f"Expected a picture (H, W, 3) of uint8, got {self.pixels.shape} {self.pixels.dtype}.")
        if self.alpha is not None and (self.alpha.dtype != np.uint8 or self.alpha.shape != self.pixels.shape[:2]):
            raise InputError(
                f"Expected alpha of shape {self.pixels.shape[:2]} uint8, got {self.alpha.shape} {self.alpha.dtype}."
            )
        if self.alpha is not None and self.alpha.size and self.alpha.min() == OPAQUE:
            object.__setattr__(self, "alpha", None)
        for header in self.headers:
            if (header.height, header.width) != self.pixels.shape[:2]:
                raise PictureSizeError((header.width, header.height), self.pixels.shape[1::-1])

    @classmethod
    def from_container(cls, pixels: Picture, container: bytes) -> KeyedPicture:
        """Put a published picture and its container together.

        Args:
            pixels: (H, W, 3 or 4) uint8, RGB or RGBA.
            container: What travelled with it.

        Raises:
            FormatError: The container is damaged.
            PictureSizeError: It belongs to a picture of another size.
        """
        alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2:] == (4,) else None
        return cls(np.ascontiguousarray(pixels[..., :3]), unpack(container), alpha)

    @property
    def stored(self) -> Picture:
        """The pixels as they are stored, (H, W, 3), or (H, W, 4) where some are not opaque."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])

    @property
    def headers(self) -> tuple[FaceHeader, ...]:
        return tuple(face.header for face in self.faces)

    @cached_property
    def claims(self) -> list[Claim]:
        """Return the pixels of every face, in order; computed once."""
        regions = [region_of(header) for header in self.headers]
        try:
            return claim_pixels(regions, *self.pixels.shape[:2])
        except InputError:
            raise FormatError from None

    def records(self) -> tuple[KeyedFaceRecord, ...]:
        """Seal what is not sealed yet, bound to the pixels as they are now and to the set of all faces.

        Raises:
            InputError: Some faces are sealed and some are not: a set that was signed does not grow.
        """
        sealed = [face for face in self.faces if isinstance(face, KeyedFaceRecord)]
        if len(sealed) == len(self.faces):
            return tuple(sealed)
        if sealed:
            raise InputError("Expected faces encrypted in one run, got some from a file. Decrypt it, and encrypt all faces.")
        headers = [header.to_bytes() for header in self.headers]
        digest, binding = set_digest(headers), cache(self.binding)
        records = []
        for face, header in zip(self.faces, headers, strict=True):
            assert isinstance(face, UnsealedFace)  # noqa: S101 - the others were found above
            if face.header.decoy:
                blob = seal_unmarked(face.key, header, face.payload)
            else:
                blob = seal(face.key, header, face.payload, digest + binding(face.header.bind))
                blob = add_signature(face.signer, header, blob, digest)
            records.append(KeyedFaceRecord(face.header, blob))
        return tuple(records)

    def container(self) -> bytes:
        """Return the bytes that travel with the picture, in a PNG or beside it."""
        return pack(self.records())

    def binding(self, bind: Bind) -> bytes:
        """Return the associated data that ties a payload to these pixels."""
        if bind is Bind.NONE:
            return b""
        pixels = self.pixels
        if bind is Bind.SURROUNDINGS:
            pixels = pixels.copy()
            pixels[claimed_pixels(self.claims, *pixels.shape[:2])] = 0
        hashed = hashlib.sha256(bind.value.encode() + struct.pack(">II", *pixels.shape[:2]))
        hashed.update(np.ascontiguousarray(pixels))
        if self.alpha is not None and self.binds_alpha:
            hashed.update(np.ascontiguousarray(self.alpha))
        return hashed.digest()

    @property
    def binds_alpha(self) -> bool:
        """Whether its faces are bound to transparency, too; those of versions 1 and 2 are not."""
        return all(header.version > 2 for header in self.headers)


def region_of(header: FaceHeader) -> Region:
    """Read where a face lies from its header.

    Raises:
        FormatError: Cells and crop do not fit, or the crop is degenerate.
    """
    affine = np.array(header.crop_to_image, np.float64).reshape(2, 3)
    if not 1e-3 < abs(np.linalg.det(affine[:, :2])) < 1e6:
        raise FormatError
    try:
        region = Region(header.crop_size, affine, header.cells)
    except InputError:
        raise FormatError from None
    if header.version == 1 and region.cell != DEFAULT_CELL:
        raise FormatError
    return region
