"""The bytes that travel with a keyed picture: one record for each face.

    "FPRV3" 0 | u16 count | count times: u32 length, header, u32 length, blob

Numbers are big-endian. The digit is the version, and every header says the same one. Every length is
checked against its cap and against the bytes that are there before anything is cut out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import FormatError, InputError
from .header import MAX_HEADER_BYTES, FaceHeader
from .sealing import MAX_BLOB_BYTES

MAGICS = {1: b"FPRV1\0", 2: b"FPRV2\0", 3: b"FPRV3\0"}
"""First bytes, by version."""
MAX_FACES = 256
MAX_SALTS = {1: 8, 2: 1, 3: 1}
"""Passphrase hashes that a picture may ask for, by version; each takes half a second at the default cost."""
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
        InputError: There are none or more than 256, they are too large, or they do not go
            together: pictures of different sizes, several versions, several costs of passphrases.
    """
    records = tuple(records)
    if not 1 <= len(records) <= MAX_FACES:
        raise InputError(f"Expected 1 to {MAX_FACES} keyed faces in a picture, got {len(records)}.")
    if not _agree(records):
        raise InputError(
            "Expected keyed faces of one picture, got some of pictures with different sizes, of several versions, or with too "
            "many salts for passphrases. Encrypt all faces of a picture in one run."
        )
    parts = [MAGICS[records[0].header.version], struct.pack(">H", len(records))]
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
    version = next((version for version, magic in MAGICS.items() if data.startswith(magic)), 0)
    place = len(MAGICS[1])
    start = place + 2
    if not version or not start <= len(data) <= MAX_CONTAINER_BYTES:
        raise FormatError
    (count,) = struct.unpack_from(">H", data, place)
    if not 1 <= count <= MAX_FACES:
        raise FormatError
    records = []
    for _ in range(count):
        header, start = _take(data, start, MAX_HEADER_BYTES)
        blob, start = _take(data, start, MAX_BLOB_BYTES)
        records.append(KeyedFaceRecord(FaceHeader.from_bytes(header), blob))
    if start != len(data) or records[0].header.version != version or not _agree(records):
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
    """Say whether faces have one picture's size, one version, and one work factor for few salts."""
    headers = [record.header for record in records]
    salts = {header.kdf for header in headers if header.kdf is not None}
    return (
        len({(header.width, header.height, header.version) for header in headers}) == 1
        and len({(kdf.n, kdf.r, kdf.p) for kdf in salts}) <= 1
        and len(salts) <= MAX_SALTS[headers[0].version]
    )
