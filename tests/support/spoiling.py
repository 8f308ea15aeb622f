"""Spoils files: wrong in a few places, and not at their checksums."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    b"\0\0\0\0", b"\xff\xff\xff\xff",
    b"{", b"[" * 60, b'"', b"1e999", b"NaN", b"-1", b"IHDR", b"IDAT", b"IEND", b"fpRv", b"eXIf",
    b"iCCP", b"zTXt", b"Exif\0\0", b"FPRV3\0", b"II*\0", b"MM\0*", b"RIFF", b"ftyp", b"\xff\xd8", b"\xff\xda", b"\xff\xd9",
)  # fmt: skip
PNG_START = b"\x89PNG\r\n\x1a\n"


def spoil(data: bytes, others: Sequence[bytes], numbers: random.Random) -> bytes:
    """Return a file that is wrong in one to six places."""
    spoiled = bytearray(data)
    for _ in range(numbers.choice((1, 1, 1, 2, 3, 6))):
        _spoil_once(spoiled, others, numbers)
    made = bytes(spoiled)
    return with_sound_checksums(made) if numbers.random() < 0.8 else made


def _spoil_once(data: bytearray, others: Sequence[bytes], numbers: random.Random) -> None:
    place = numbers.randrange(len(data) + 1) if numbers.random() < 0.5 else min(len(data), int(numbers.expovariate(1 / 60)))
    kind = numbers.randrange(9)
    if kind == 0 and place < len(data):
        data[place] ^= 1 << numbers.randrange(8)
    elif kind == 1 and place < len(data):
        data[place] = numbers.choice((0, 255, numbers.randrange(256)))
    elif kind in (2, 3):
        size = numbers.choice((1, 2, 4, 8))
        number = (numbers.choice(INTERESTING) + numbers.choice((0, 0, 1, -1))) % 2 ** (8 * size)
        data[place : place + size] = number.to_bytes(size, numbers.choice(("big", "little")))
    elif kind == 4:
        del data[place : place + numbers.choice((1, 2, 4, 16, 200))]
    elif kind == 5:
        data[place:place] = numbers.choice(WORDS)
    elif kind == 6:
        length = numbers.choice((1, 4, 12, 64, 500))
        data[place:place] = data[place : place + length] * numbers.choice((1, 1, 2, 50))
    elif kind == 7 and numbers.random() < 0.3:
        del data[place:]
    else:
        other = numbers.choice(others)
        start = numbers.randrange(len(other) + 1)
        data[place : place + numbers.choice((0, 8, 100))] = other[start : start + numbers.choice((4, 30, 300))]


def with_sound_checksums(data: bytes) -> bytes:
    """Return a PNG whose checksums hold, so that damage goes deeper than they; anything else as it is."""
    if not data.startswith(PNG_START):
        return data
    place, parts = 8, [PNG_START]
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        content = data[place + 4 : place + 8 + length]
        parts.append(struct.pack(">I", length) + content + struct.pack(">I", zlib.crc32(content)))
        place += 12 + length
    return b"".join(parts)
