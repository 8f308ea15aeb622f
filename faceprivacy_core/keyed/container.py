"""The bytes that travel with a keyed picture: one record for each face.

    "FPRV1" 0 | u16 count | count times: u32 length, header, u32 length, blob

Numbers are big-endian. Every length is checked against its cap and against the bytes that are
there before anything is cut out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import FormatError, InputError
from .header import MAX_HEADER_BYTES, FaceHeader
from .sealing import MAX_BLOB_BYTES

MAGIC = b"FPRV1\0"
MAX_FACES = 256
MAX_CONTAINER_BYTES = 2**30
"""A PNG chunk ends below 2^31 bytes, and a reader holds the container in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyedFaceRecord:
    """One keyed face.

    Attributes:
        header: Public parameters.
        blob: The sealed payload, at most 64 MiB; may be empty.
    """

    header: FaceHeader
    blob: bytes = field(repr=False)


def pack(records: Iterable[KeyedFaceRecord]) -> bytes:
    """Write the records of one picture, in order.

    Raises:
        InputError: There are none or more than 256, they are too large, or they belong to
            pictures of different sizes.
    """
    records = tuple(records)
    if not 1 <= len(records) <= MAX_FACES:
        raise InputError(f"Expected 1 to {MAX_FACES} keyed faces in a picture, got {len(records)}.")
    if not _agree(records):
        raise InputError("Expected keyed faces of one picture, got some of pictures with different sizes.")
    parts = [MAGIC, struct.pack(">H", len(records))]
    for record in records:
        for part, limit in ((record.header.to_bytes(), MAX_HEADER_BYTES), (record.blob, MAX_BLOB_BYTES)):
            if len(part) > limit:
                raise InputError(f"Expected at most {limit >> 20} MiB in a part of a keyed face, got {len(part)} bytes.")
            parts += [struct.pack(">I", len(part)), part]
    if sum(map(len, parts)) > MAX_CONTAINER_BYTES:
        raise InputError(f"Expected at most {MAX_CONTAINER_BYTES >> 20} MiB for all faces of a picture, they take more.")
    return b"".join(parts)


def unpack(data: bytes) -> tuple[KeyedFaceRecord, ...]:
    """Read what `pack` wrote, byte for byte, and nothing else.

    Raises:
        FormatError: Anything about the bytes is different.
    """
    start = len(MAGIC) + 2
    if not start <= len(data) <= MAX_CONTAINER_BYTES or data[: len(MAGIC)] != MAGIC:
        raise FormatError
    (count,) = struct.unpack_from(">H", data, len(MAGIC))
    if not 1 <= count <= MAX_FACES:
        raise FormatError
    records = []
    for _ in range(count):
        header, start = _take(data, start, MAX_HEADER_BYTES)
        blob, start = _take(data, start, MAX_BLOB_BYTES)
        records.append(KeyedFaceRecord(FaceHeader.from_bytes(header), blob))
    if start != len(data) or not _agree(records):
        raise FormatError
    return tuple(records)


def _take(data: bytes, start: int, limit: int) -> tuple[bytes, int]:
    """Cut out one part with its length in front; also return where the next one starts."""
    begin = start + 4
    if begin > len(data):
        raise FormatError
    (length,) = struct.unpack_from(">I", data, start)
    if length > limit or begin + length > len(data):
        raise FormatError
    return data[begin : begin + length], begin + length


def _agree(records: Iterable[KeyedFaceRecord]) -> bool:
    return len({(record.header.width, record.header.height) for record in records}) == 1
