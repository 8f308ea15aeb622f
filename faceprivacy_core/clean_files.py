"""Picture files that hold pixels and nothing else: no name, no workflow, no place, no date."""

from __future__ import annotations

import io
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from .errors import InputError

LOSSLESS = 100
"""Quality from which WebP keeps every pixel."""

FULL_COLOUR_QUALITY = 90
"""Quality from which JPEG keeps colour at full resolution."""

_DATE = slice(24, 36)
"""Of an ICC profile's header: when it was made."""


class FileKind(str, Enum):
    """Format of a picture file."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WebP"

    @property
    def suffix(self) -> str:
        """Ending of a file's name, with the dot."""
        return {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}[self.value]


def encode_clean(picture: NDArray[np.uint8], kind: FileKind, *, quality: int = 95, is_tagged: bool = True) -> bytes:
    """Encode a picture without any metadata.

    Args:
        picture: (H, W, 3) uint8 RGB.
        kind: Format; PNG keeps every pixel.
        quality: 1 to 100, for JPEG and WebP; WebP keeps every pixel at 100.
        is_tagged: Say in the file that its colours are sRGB. What is added is the same for every picture.

    Raises:
        InputError: The quality is out of range.

    Laws: the same picture and settings give the same bytes.
    """
    if not 1 <= quality <= LOSSLESS:
        raise InputError(f"Expected a quality from 1 to {LOSSLESS}, got {quality}.")
    encoded, file = io.BytesIO(), Image.fromarray(picture)
    if kind is FileKind.PNG:
        chunks = PngInfo()
        if is_tagged:
            chunks.add(b"sRGB", b"\0")
        file.save(encoded, "PNG", pnginfo=chunks)
        return encoded.getvalue()
    profile = {"icc_profile": srgb_profile()} if is_tagged else {}
    if kind is FileKind.JPEG:
        subsampling = 0 if quality >= FULL_COLOUR_QUALITY else 2
        file.save(encoded, "JPEG", quality=quality, subsampling=subsampling, optimize=True, **profile)
    else:
        file.save(encoded, "WEBP", quality=quality, lossless=quality == LOSSLESS, **profile)
    return encoded.getvalue()


def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB without the date on which it was made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_DATE] = bytes(_DATE.stop - _DATE.start)
    return bytes(profile)
