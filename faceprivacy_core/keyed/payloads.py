"""What is sealed for each recovery mode, as bytes."""

from __future__ import annotations

import io
import struct

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import FormatError
from .regions import Claim
from .transports import Moments

_CORNER = struct.Struct("<II")
_SHAPE = struct.Struct("<HHH")
_MOMENTS = struct.Struct("<dd")
_MEAN_LIMIT = 0.25
_SCALE_RANGE = (0.75, 1.25)

Picture = NDArray[np.uint8]


def write_pixels(picture: Picture, claim: Claim) -> bytes:
    """Pack the original pixels of a claim: corner, then a PNG whose alpha says which pixels are its own."""
    window = picture[claim.rows, claim.columns]
    owned = claim.owned
    rgba = np.dstack([window * owned[..., None], owned.astype(np.uint8) * 255]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG", compress_level=9)
    return _CORNER.pack(claim.rows.start, claim.columns.start) + file.getvalue()


def restore_pixels(payload: bytes, picture: Picture) -> Picture:
    """Put packed pixels back into a picture.

    Raises:
        FormatError: They do not fit.
    """
    try:
        top, left = _CORNER.unpack_from(payload)
        with Image.open(io.BytesIO(payload[_CORNER.size :]), formats=["PNG"]) as opened:
            if opened.mode != "RGBA" or opened.width + left > picture.shape[1] or opened.height + top > picture.shape[0]:
                raise FormatError
            rgba = np.asarray(opened)
    except (struct.error, OSError, ValueError, SyntaxError):
        raise FormatError from None
    result = picture.copy()
    window = result[top : top + rgba.shape[0], left : left + rgba.shape[1]]
    owned = rgba[..., 3] == 255
    window[owned] = rgba[owned][:, :3]
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


def write_moments(moments: Moments) -> bytes:
    """Pack moments exactly."""
    return _MOMENTS.pack(moments.mean, moments.scale)


def read_moments(payload: bytes) -> Moments:
    """Unpack moments; FormatError when they are not."""
    if len(payload) != _MOMENTS.size:
        raise FormatError
    moments = Moments(*_MOMENTS.unpack(payload))
    if not (np.isfinite(moments.mean) and np.isfinite(moments.scale) and moments.scale > 0):
        raise FormatError
    return moments


def write_coarse_moments(moments: Moments) -> bytes:
    """Pack moments in two bytes of which every value is plausible, so that no key looks wrong."""
    low, high = _SCALE_RANGE
    parts = (moments.mean / (2 * _MEAN_LIMIT) + 0.5, (moments.scale - low) / (high - low))
    return bytes(round(255 * min(max(part, 0.0), 1.0)) for part in parts)


def read_coarse_moments(payload: bytes) -> Moments:
    """Unpack two bytes; FormatError when there are more or fewer."""
    if len(payload) != 2:
        raise FormatError
    low, high = _SCALE_RANGE
    return Moments((payload[0] / 255 - 0.5) * 2 * _MEAN_LIMIT, low + payload[1] / 255 * (high - low))
