"""Beginnings of pictures and videos where none should begin."""

from __future__ import annotations

import re

_OTHERS = rb"\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a|ftyp(?:heic|heix|mif1|msf1|avif|avis|mp41|mp42|isom|qt  )"
_JPEG = rb"\xff\xd8\xff(?:\xe0\0\x10JFIF\0|\xe1..Exif\0|\xdb\0[\x43\x84]\0)"
_START = re.compile(_JPEG + b"|" + _OTHERS, re.DOTALL)
_START_IN_TIFF = re.compile(_OTHERS, re.DOTALL)
"""A TIFF's strips may be JPEG."""


def begins_again(data: bytes, *, is_tiff: bool = False) -> bool:
    """Tell whether another picture or a video seems to begin inside a file; five bytes or more are never alike by chance."""
    return (_START_IN_TIFF if is_tiff else _START).search(data, 1) is not None
