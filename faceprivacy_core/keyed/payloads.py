"""What is sealed for each recovery mode, as bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import FormatError
from ..types import Picture
from .regions import Claim
from .transports import Moments

_CORNER = struct.Struct("<II")
_PNG_START, _PNG_SIZE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", struct.Struct(">II")
_SHAPE = struct.Struct("<HHH")
_MOMENTS = struct.Struct("<dd")
_MEAN_LIMIT = 0.25
_SCALE_RANGE = (0.75, 1.25)


def write_pixels(picture: Picture, claim: Claim) -> bytes:
    """Pack the original pixels of a claim as they are: their number is public, so the length says nothing about them."""
    return picture[claim.rows, claim.columns][claim.owned].tobytes()


def read_pixels(payload: bytes, claim: Claim) -> NDArray[np.uint8]:
    """Unpack the pixels of a claim, (N, 3), row by row.

    Raises:
        FormatError: They are not as many as the claim has.
    """
    count = int(claim.owned.sum())
    if len(payload) != 3 * count:
        raise FormatError
    return np.frombuffer(payload, np.uint8).reshape(count, 3)


def read_packed_pixels(payload: bytes, claim: Claim) -> NDArray[np.uint8]:
    """Unpack the pixels of a claim from version 1: its corner, then a PNG whose alpha says which pixels are its own.

    Returns:
        (N, 3), row by row.

    Raises:
        FormatError: Place, size or alpha are not those of the claim.
    """
    if len(payload) < _CORNER.size + len(_PNG_START) + _PNG_SIZE.size:
        raise FormatError
    corner, start = _CORNER.unpack_from(payload), _CORNER.size + len(_PNG_START)
    size = _PNG_SIZE.unpack_from(payload, start)
    # The size stands in front, and is compared before a decoder asks for memory.
    fits = corner == (claim.rows.start, claim.columns.start) and size == claim.owned.shape[::-1]
    if not fits or payload[_CORNER.size : start] != _PNG_START:
        raise FormatError
    try:
        with Image.open(io.BytesIO(payload[_CORNER.size :]), formats=["PNG"]) as opened:
            rgba = np.asarray(opened)
    except (OSError, ValueError, SyntaxError):
        raise FormatError from None
    if rgba.shape != (*claim.owned.shape, 4) or not np.array_equal(rgba[..., 3] == 255, claim.owned):
        raise FormatError
    return rgba[claim.owned][:, :3]


def restore_pixels(picture: Picture, claim: Claim, pixels: NDArray[np.uint8]) -> Picture:
    """Put pixels (N, 3) back where a claim is, and nowhere else; the picture is not modified."""
    result = picture.copy()
    result[claim.rows, claim.columns][claim.owned] = pixels
    return result


def write_latent(latent: Tensor) -> bytes:
    """Pack a latent (1, C, h, w) as float16."""
    return _SHAPE.pack(*latent.shape[1:]) + latent[0].half().numpy().astype("<f2").tobytes()


def read_latent(payload: bytes, rows: int, columns: int) -> Tensor:
    """Unpack a latent, (1, C, rows, columns) float32.

    Raises:
        FormatError: It has another shape or values that are not finite.
    """
    if len(payload) < _SHAPE.size:
        raise FormatError
    shape = _SHAPE.unpack_from(payload)
    if shape[1:] != (rows, columns) or len(payload) != _SHAPE.size + 2 * int(np.prod(shape)):
        raise FormatError
    values = np.frombuffer(payload, "<f2", offset=_SHAPE.size).astype(np.float32).reshape(1, *shape)
    if not np.isfinite(values).all():
        raise FormatError
    return torch.from_numpy(values)


def write_moments(moments: Sequence[Moments]) -> bytes:
    """Pack moments exactly, one pair after the other."""
    return b"".join(_MOMENTS.pack(pair.mean, pair.scale) for pair in moments)


def read_moments(payload: bytes) -> tuple[Moments, ...]:
    """Unpack moments; FormatError when they are not."""
    if not payload or len(payload) % _MOMENTS.size:
        raise FormatError
    moments = tuple(Moments(*pair) for pair in _MOMENTS.iter_unpack(payload))
    if not all(np.isfinite(pair.mean) and np.isfinite(pair.scale) and pair.scale > 0 for pair in moments):
        raise FormatError
    return moments


def write_coarse_moments(moments: Moments) -> bytes:
    """Pack moments in two bytes of which every value can be used, so that no key gives an error."""
    low, high = _SCALE_RANGE
    parts = (moments.mean / (2 * _MEAN_LIMIT) + 0.5, (moments.scale - low) / (high - low))
    return bytes(round(255 * min(max(part, 0.0), 1.0)) for part in parts)


def read_coarse_moments(payload: bytes) -> Moments:
    """Unpack two bytes; FormatError when there are more or fewer."""
    if len(payload) != 2:
        raise FormatError
    low, high = _SCALE_RANGE
    return Moments((payload[0] / 255 - 0.5) * 2 * _MEAN_LIMIT, low + payload[1] / 255 * (high - low))
