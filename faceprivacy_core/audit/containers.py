"""The blocks of WebP and GIF, and the pixel data of PNG: what in them is no picture."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

from .notes import Notes

WEBP_CHUNKS = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "))
WEBP_ONCE = frozenset((b"ICCP", b"EXIF", b"XMP ", b"VP8X", b"ANIM"))
GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
GIF_XMP = b"XMP DataXMP"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, and steps, of each pass."""

STEP_BYTES = 2**20


def audit_webp(data: bytes, notes: Notes) -> None:
    """Note chunks of a WebP that are not of the standard, or come twice."""
    counts: Counter[bytes] = Counter()
    for kind, length in _riff_chunks(data, 12, 8 + int.from_bytes(data[4:8], "little")):
        counts[kind] += 1
        if kind not in WEBP_CHUNKS or (kind in WEBP_ONCE and counts[kind] > 1):
            notes.add("unread", f"WebP chunk {notes.label(kind.decode('latin-1'))}", f"{length} bytes")
    if counts[b"VP8 "] + counts[b"VP8L"] > 1:
        notes.add("embedded", "WebP", "a second picture")


def audit_gif(data: bytes, notes: Notes) -> None:
    """Note application blocks of a GIF other than loops and XMP, and its plain text."""
    flags = data[10]
    at = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            flags = data[at + 9]
            at += 11 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
            at, _ = _sub_blocks(data, at)
        elif data[at] == 0x21:
            label, name = data[at + 1], data[at + 3 : at + 3 + data[at + 2]]
            if label == 0xFF and name == GIF_XMP:  # text as it is, up to a trailer that ends in zeros
                at = data.index(0, at + 14)
                while data[at] == 0:
                    at += 1
                continue
            at, length = _sub_blocks(data, at + 2)
            is_loop = name in GIF_LOOPS and length <= len(name) + 8
            if label == 0x01 or (label == 0xFF and not is_loop) or label not in (0x01, 0xF9, 0xFE, 0xFF):
                notes.add("unread", f"GIF block {notes.label(name.decode('latin-1')) or label}", f"{length} bytes")
        else:
            raise ValueError("The blocks are damaged.")


def audit_pixel_data(header: bytes, idat: list[bytes], notes: Notes) -> None:
    """Note what a PNG's pixel data hold beyond its pixels.

    Raises:
        zlib.error, ValueError: They are damaged or cut off.
    """
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    bits = depth * CHANNELS.get(colour, 4)
    needed = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in _passes(width, height, interlace) if columns)
    unpack, have = zlib.decompressobj(), 0
    rest = 0
    for block in idat:
        if unpack.eof:
            rest += len(block)
            continue
        while block and not unpack.eof:
            have += len(unpack.decompress(block, STEP_BYTES))
            if have > needed + STEP_BYTES:
                notes.add("unread", "chunk IDAT, behind the pixels", "more than a megabyte")
                return
            block = unpack.unconsumed_tail
        rest += len(unpack.unused_data) if unpack.eof else 0
    if not unpack.eof:
        have += len(unpack.flush())
    if have < needed:
        raise ValueError("The pixels are cut off.")
    if rest or have > needed:
        notes.add("unread", "chunk IDAT, behind the pixels", f"{rest + have - needed} bytes")


def _passes(width: int, height: int, interlace: int) -> list[tuple[int, int]]:
    if not interlace:
        return [(width, height)]
    return [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in PASSES if width > x and height > y]


def _riff_chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int]]:
    while at + 8 <= min(end, len(data)):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, length
        at += 8 + length + length % 2


def _sub_blocks(data: bytes, at: int) -> tuple[int, int]:
    """Return where a chain of blocks ends, and its length."""
    length = 0
    while data[at]:
        length += data[at]
        at += 1 + data[at]
    return at + 1, length
