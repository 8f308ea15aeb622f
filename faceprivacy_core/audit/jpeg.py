"""The segments of a JPEG: what in them is no picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .notes import Notes
from .text import audit_free_text, decoded

XMP_HEAD, ICC_HEAD = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
ICC_HEAD_BYTES = 14
SEGMENTS: dict[str, dict[bytes, int]] = {
    "APP0": {b"JFIF\0": 14},
    "APP1": {b"Exif\0\0": 2**16, XMP_HEAD: 2**16, b"http://ns.adobe.com/xmp/extension/\0": 2**16},
    "APP2": {ICC_HEAD: 2**16, b"MPF\0": 2**12},
    "APP12": {b"Ducky": 64},
    "APP13": {b"Photoshop 3.0\0": 2**16},
    "APP14": {b"Adobe": 32},
}
"""Beginnings of segments that are looked into, or too short to tell anything about a person, and their greatest lengths."""

MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker with a length, or the end; between pixels, 0xff is followed by one of the excepted bytes."""

END, SCAN, COMMENT = 0xD9, 0xDA, 0xFE
TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF))
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MAX_TABLE_BYTES, MAX_TABLES_BYTES = 2**12, 2**16
"""Of one segment, and of all: Huffman tables take 2 KB, and progressive files have new ones for every scan."""

THUMBNAILS = (0x0409, 0x040C)
PHOTOSHOP_READ = frozenset((0x0404, *THUMBNAILS))
PHOTOSHOP_PLAIN = frozenset((0x03ED, 0x03F3, 0x03F5, 0x03F8, 0x0406, 0x0408, 0x040D, 0x0411, 0x0414, 0x0419, 0x041E, 0x0421,
                             0x0425, 0x0426, 0x0428, 0x2710))  # fmt: skip
MAX_RESOURCE_BYTES = 256
"""Of a resource of Photoshop that is about printing, grids and views."""


class _Segment(NamedTuple):
    marker: int
    gap: bytes
    length: int
    end: int


def end_of_jpeg(data: bytes) -> int:
    """Return where the picture ends; Pillow does not tell where its decoder stopped.

    Raises:
        EOFError: It is cut off.
    """
    *_, last = _segments(data)
    return last.end


def audit_segments(picture: Any, data: bytes, notes: Notes) -> None:
    """Note segments of a JPEG that are not of the standard, too long for what they are, or come twice.

    Args:
        picture: As Pillow has opened it.
        data: The file.
        notes: Gathers the findings.
    """
    tables, before = 0, 0
    for segment in _segments(data):
        is_table = segment.marker in TABLES or segment.marker in FRAMES or segment.marker == SCAN
        tables += segment.length if is_table else 0
        if not is_table and segment.marker not in (COMMENT, END, *range(0xE0, 0xF0)):
            notes.add("unread", f"JPEG segment {segment.marker:02X}", f"{segment.length} bytes")
        elif is_table and (segment.length > MAX_TABLE_BYTES or tables > MAX_TABLES_BYTES):
            notes.add("unread", "JPEG tables", f"{tables} bytes")
        if before != SCAN and segment.gap.strip(b"\xff"):
            notes.add("unread", "JPEG, between segments", f"{len(segment.gap)} bytes")
        before = segment.marker
    for name, body in picture.applist:
        if name == "COM":
            audit_free_text(decoded(body), "JPEG comment", notes)
        elif body.startswith(b"JFXX\0") or (body.startswith(b"JFIF\0") and body[12:13] > b"\0" and body[13:14] > b"\0"):
            notes.add("embedded", "JFIF thumbnail")
        elif not any(body.startswith(head) and len(body) <= longest for head, longest in SEGMENTS.get(name, {}).items()):
            notes.add("unread", f"JPEG segment {name}", f"{len(body)} bytes")
    bodies = [body for _, body in picture.applist]
    profile = sum(len(body) - ICC_HEAD_BYTES for body in bodies if body.startswith(ICC_HEAD))
    if profile != len(picture.info.get("icc_profile") or b""):
        notes.add("unread", "JPEG segment APP2", "parts of a colour profile that do not go together")
    if sum(body.startswith(XMP_HEAD) for body in bodies) > 1:
        notes.add("unread", "JPEG segment APP1", "a second XMP block")
    _audit_resources(picture.info.get("photoshop", {}), notes)


def _audit_resources(resources: dict[int, Any], notes: Notes) -> None:
    if any(resources.get(code) for code in THUMBNAILS):
        notes.add("embedded", "Photoshop thumbnail")
    for code, content in resources.items():
        size = len(content) if isinstance(content, bytes) else 0  # Pillow has taken it apart
        if code not in PHOTOSHOP_READ and (code not in PHOTOSHOP_PLAIN or size > MAX_RESOURCE_BYTES):
            notes.add("unread", f"Photoshop resource {code:04X}", f"{size} bytes")


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield all segments, with the bytes before each, up to the end of the picture."""
    position = 2
    while True:
        found = MARKER.search(data, position)
        if found is None:
            raise EOFError("The JPEG is cut off.")
        marker, gap = found[0][1], data[position : found.start()]
        if marker == END:
            yield _Segment(marker, gap, 0, found.end())
            return
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + length
        yield _Segment(marker, gap, length, position)
