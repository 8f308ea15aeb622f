"""The parts of a BMP: what in it is no picture."""

from __future__ import annotations

import struct

from .blocks import audit_trailing
from .icc import audit_icc
from .notes import Notes

FILE_HEADER_BYTES, OLD_HEADER_BYTES, MASKS_AFTER_BYTES, PROFILE_HEADER_BYTES = 14, 12, 40, 124
PLAIN, RUN_LENGTHS, MASKED = (0, 3, 6), (1, 2), {3: 12, 6: 16}
"""Kinds of storing pixels, and the bytes of masks that two of them have behind a short header."""

EMBEDDED, LINKED = b"DEBM", b"KNIL"


def audit_bmp(data: bytes, notes: Notes) -> None:
    """Note bytes of a BMP before its pixels and behind them, and its colour profile.

    Raises:
        struct.error, ValueError: It is damaged or cut off, or its pixels are stored in another way.
    """
    offset, header = struct.unpack_from("<II", data, 10)
    if header == OLD_HEADER_BYTES:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        storing, stored, colours, colour_bytes = 0, 0, 0, 3
    else:
        width, height, _, bits, storing, stored = struct.unpack_from("<iiHHII", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
        colour_bytes = 4
    masks = MASKED.get(storing, 0) if header == MASKS_AFTER_BYTES else 0
    palette = colour_bytes * (colours or (2**bits if bits <= 8 else 0))
    pixels = stored if storing in RUN_LENGTHS else (width * bits + 31) // 32 * 4 * abs(height)
    if storing not in (*PLAIN, *RUN_LENGTHS) or width <= 0 or offset + pixels > len(data):
        raise ValueError("The pixels are cut off, or stored in another way.")
    start, end = FILE_HEADER_BYTES + header + masks + palette, offset + pixels
    if data[start:offset].strip(b"\0"):
        notes.add("unread", "BMP, before the pixels", f"{offset - start} bytes")
    if header == PROFILE_HEADER_BYTES:
        end = _audit_profile(data, end, notes)
    audit_trailing(data[end:], notes)


def _audit_profile(data: bytes, end: int, notes: Notes) -> int:
    """Audit the colour profile; return where it ends if it lies behind the pixels."""
    space = data[FILE_HEADER_BYTES + 56 : FILE_HEADER_BYTES + 60]
    place, size = struct.unpack_from("<II", data, FILE_HEADER_BYTES + 112)
    if space not in (EMBEDDED, LINKED):
        return end
    start = FILE_HEADER_BYTES + place
    if space == LINKED:
        notes.add("path", "BMP, place of a colour profile")
    else:
        audit_icc(data[start : start + size], notes)
    return max(end, start + size) if start <= end + 4 else end
