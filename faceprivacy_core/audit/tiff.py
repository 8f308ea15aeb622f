"""The bytes of a TIFF, or of the TIFF that EXIF is: which are accounted for by its directories."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .notes import Notes

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value, by the number of its type."""

EXIF, GPS, INTEROP, SUB_IFDS = 34665, 34853, 40965, 330
SIDES, BITS, COMPRESSION, SAMPLES = (256, 257), 258, 259, 277
STRIPS, TILES, THUMBNAIL = (273, 279), (324, 325), (513, 514)
READ_ELSEWHERE = {700, 33723, 34675}
"""XMP, IPTC and the colour profile."""

HIDDEN_PICTURES = {SUB_IFDS: "further directories", 37724: "layers of Photoshop", 34377: "resources of Photoshop"}
FIRST_PRIVATE = 32768
KNOWN_PRIVATE = {33432, 33434, 33437, EXIF, GPS, INTEROP, *READ_ELSEWHERE, *range(40091, 40096), 50341}
"""Copyright, exposure and aperture, pointers, texts of Windows, and print settings: EXIF holds them in its first directory."""

TEXTS = frozenset((269, 270, 271, 272, 285, 305, 306, 315, 316, 333, 337, 33432, *range(40091, 40096)))
"""Read as EXIF, whatever their length."""
LONG = {
    **dict.fromkeys((*STRIPS, *TILES, EXIF, GPS, INTEROP, *READ_ELSEWHERE), 2**32),
    291: 512,
    301: 1536,
    320: 2**19,
    347: 4096,
}
"""Greatest lengths of tags that are longer than numbers: lists of strips, curves, palette, JPEG tables."""
PLAIN = frozenset((*range(254, 301), *range(317, 346), *range(512, 533), 18246, 18249, *LONG, *KNOWN_PRIVATE))
"""Tags of the standard below the private ones, and two by which Windows rates pictures."""
MAX_PLAIN_BYTES, MAX_DETAIL_BYTES = 64, 1024
"""Of a tag that is a number or a few, and of one in the directories of EXIF, GPS and Interop."""
TOLD = frozenset((37500, 37510))
"""Makers' notes and comments are findings whatever their length."""

MAX_DIRECTORIES = 256
MIN_REST_BYTES = 64
"""Writers leave fewer bytes between their directories; no picture is so small, and known keys are searched for anyway."""


@dataclass
class _Walk:
    """What was seen of a TIFF."""

    data: bytes
    order: str
    spans: list[tuple[int, int]] = field(default_factory=list)
    tags: dict[int, int] = field(default_factory=dict)
    details: dict[int, int] = field(default_factory=dict)
    too_long: int = 0
    seen: set[int] = field(default_factory=set)

    def read(self, layout: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + layout, self.data, at)


def audit_tiff_bytes(data: bytes, where: str, notes: Notes) -> None:
    """Note private tags, and bytes that no directory mentions.

    Args:
        data: From the byte order mark on.
        where: What the notes call it.
        notes: Gathers the findings.

    Raises:
        struct.error, ValueError: It is damaged.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("There is no byte order mark.")
    walk = _Walk(data, order, [(0, 8)])
    if walk.read("H", 2)[0] != 42:
        notes.add("unread", where, "a TIFF of another version")
        return
    (start,) = walk.read("I", 4)
    while start:
        start = _walk_directory(walk, start)
    for tag, size in sorted(walk.tags.items()):
        if tag in HIDDEN_PICTURES:
            notes.add("embedded", where, HIDDEN_PICTURES[tag])
        elif not _is_plain(tag, size):
            notes.add("unread", f"{where}, tag {tag}", f"{size} bytes")
    for tag, size in sorted(walk.details.items()):
        if size > MAX_DETAIL_BYTES and tag not in TOLD:
            notes.add("unread", f"{where}, tag {tag}", f"{size} bytes")
    if walk.too_long:
        notes.add("unread", f"{where}, behind the pixels of strips", f"{walk.too_long} bytes")
    rest = _unmentioned(walk)
    if rest >= MIN_REST_BYTES:
        notes.add("unread", f"{where}, outside its directories", f"{rest} bytes")


def _is_plain(tag: int, size: int) -> bool:
    if tag in TEXTS:
        return True
    if tag >= FIRST_PRIVATE:
        return tag in KNOWN_PRIVATE
    return tag in PLAIN and size <= LONG.get(tag, MAX_PLAIN_BYTES)


def _walk_directory(walk: _Walk, start: int, *, is_private: bool = False) -> int:
    """Account for one directory and what it points to; return where the next one starts, 0 if none."""
    if start in walk.seen or len(walk.seen) > MAX_DIRECTORIES:
        raise ValueError("The directories run in a circle.")
    walk.seen.add(start)
    (count,) = walk.read("H", start)
    end = start + 2 + 12 * count
    values: dict[int, tuple[int, ...]] = {}
    for at in range(start + 2, end, 12):
        tag, kind, number = walk.read("HHI", at)
        size = SIZES.get(kind, 1) * number
        place = at + 8 if size <= 4 else walk.read("I", at + 8)[0]
        if size > 4:
            walk.spans.append((place, place + size))
        is_empty = size > 4 and not walk.data[place : place + size].strip(b"\0")  # padding, which some programs leave
        if not is_empty:
            tags = walk.details if is_private else walk.tags
            tags[tag] = tags.get(tag, 0) + size
        if kind in (3, 4, 13) and place + size <= len(walk.data):
            values[tag] = walk.read(f"{number}{'H' if kind == 3 else 'I'}", place)
    has_next = len(walk.data) >= end + 4
    walk.spans.append((start, end + 4 if has_next else end))
    for offsets, lengths in (STRIPS, TILES, THUMBNAIL):
        # Not strict: a damaged file names more places than lengths; what is left over stays outside the spans and is a finding.
        pairs = zip(values.get(offsets, ()), values.get(lengths, ()), strict=False)
        walk.spans += [(offset, offset + length) for offset, length in pairs]
    walk.too_long += max(0, _stored_bytes(values) - _pixel_bytes(values))
    for pointer in (EXIF, GPS, INTEROP):
        for offset in values.get(pointer, ()):
            _walk_directory(walk, offset, is_private=True)
    return walk.read("I", end)[0] if has_next and not is_private else 0


def _stored_bytes(values: dict[int, tuple[int, ...]]) -> int:
    return sum(values.get(STRIPS[1], ())) if values.get(COMPRESSION, (1,))[0] == 1 else 0


def _pixel_bytes(values: dict[int, tuple[int, ...]]) -> int:
    """Return how many bytes uncompressed strips can need."""
    width, height = (values.get(tag, (0,))[0] for tag in SIDES)
    bits = values.get(BITS, (1,))
    samples = max(len(bits), values.get(SAMPLES, (1,))[0])
    return height * samples * ((width * max(bits) + 7) // 8)


def _unmentioned(walk: _Walk) -> int:
    """Count the bytes between spans that are not padding."""
    count, reached = 0, 0
    for start, end in [*sorted(walk.spans), (len(walk.data), len(walk.data))]:
        if start > reached and walk.data[reached:start].strip(b"\0 "):
            count += start - reached
        reached = max(reached, end)
    return count
