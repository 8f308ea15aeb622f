"""Pictures other than PNG: their metadata, their further pictures, and where they end."""

from __future__ import annotations

import io
import re
from typing import Any

from PIL import IptcImagePlugin

from .blocks import audit_trailing
from .containers import audit_gif, audit_webp
from .icc import audit_icc
from .metadata import EXIF_START, audit_exif, audit_iptc, audit_xmp, find_xmp, load_exif
from .notes import Notes
from .text import audit_free_text, decoded
from .tiff import audit_tiff_bytes

JPEG_SEGMENTS = {
    "APP0": (b"JFIF\0",),
    "APP1": (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0"),
    "APP12": (b"Ducky",),
    "APP13": (b"Photoshop 3.0\0",),
    "APP14": (b"Adobe",),
}
"""Segments that are looked into, or cannot tell anything about a person."""
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker with a length, or the end; between pixels, 0xff is followed by one of the excepted bytes."""
BLOCKS = {"WEBP": audit_webp, "GIF": audit_gif}
PHOTOSHOP_THUMBNAILS = (0x0409, 0x040C)


class WatchedBytes(io.BytesIO):
    """A file that knows how far it was read."""

    furthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.furthest = max(self.furthest, self.tell())
        return part


def audit_picture(picture: Any, data: bytes, stream: WatchedBytes, notes: Notes) -> None:
    """Audit a picture that Pillow has opened, other than PNG."""
    is_tiff, is_mpo = picture.format == "TIFF", picture.format == "MPO"
    count = 1
    with notes.reading("frames"):
        count = getattr(picture, "n_frames", 1)
        if count > 1:
            notes.add("embedded" if is_mpo else "frames", "file", f"{count} pictures")
    with notes.reading("end of the image"):
        end = None if is_mpo or is_tiff else _end_of_image(picture.format, data, stream)
        if end is not None:
            audit_trailing(data[end:], notes)
    with notes.reading("EXIF"):
        if not is_tiff:
            audit_exif(load_exif(picture.info.get("exif", b"")), notes)
        for page in range(count if is_tiff else 0):
            picture.seek(page)
            audit_exif(picture.getexif(), notes, has_thumbnail_ifd=False)
            if page and picture.tag_v2.get(254, 0) & 1:
                notes.add("embedded", "TIFF", "a smaller copy")
    block = data if is_tiff else picture.info.get("exif", b"").removeprefix(EXIF_START)
    if block:
        with notes.reading("EXIF" if not is_tiff else "directories"):
            audit_tiff_bytes(block, "TIFF" if is_tiff else "EXIF", notes)
    if picture.info.get("icc_profile"):
        with notes.reading("colour profile"):
            audit_icc(picture.info["icc_profile"], notes)
    if picture.format in BLOCKS:
        with notes.reading("blocks"):
            BLOCKS[picture.format](data, notes)
    if is_tiff:
        picture.seek(0)
    with notes.reading("IPTC"):
        audit_iptc(IptcImagePlugin.getiptcinfo(picture) or {}, notes)
    with notes.reading("XMP"):
        for packet in find_xmp(picture, data):
            audit_xmp(decoded(packet), notes)
    if picture.format in ("JPEG", "MPO"):
        with notes.reading("JPEG segments"):
            _audit_segments(picture, notes)
    elif picture.info.get("comment"):
        audit_free_text(decoded(picture.info["comment"]), f"{picture.format} comment", notes)


def _audit_segments(picture: Any, notes: Notes) -> None:
    for name, body in picture.applist:
        if name == "COM":
            audit_free_text(decoded(body), "JPEG comment", notes)
        elif body.startswith(b"JFXX\0") or (body.startswith(b"JFIF\0") and body[12:13] > b"\0" and body[13:14] > b"\0"):
            notes.add("embedded", "JFIF thumbnail")
        elif not body.startswith(JPEG_SEGMENTS.get(name, ())):
            notes.add("unread", f"JPEG segment {name}", f"{len(body)} bytes")
    if any(picture.info.get("photoshop", {}).get(code) for code in PHOTOSHOP_THUMBNAILS):
        notes.add("embedded", "Photoshop thumbnail")


def _end_of_image(kind: str, data: bytes, stream: WatchedBytes) -> int | None:
    """Return where the image ends, None where its format does not say."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") or None
    if kind == "GIF":
        return stream.furthest  # counting the frames has read it to its end
    position = 2
    while kind == "JPEG":  # Pillow does not tell where its decoder stopped
        marker = JPEG_MARKER.search(data, position)
        if marker is None:
            raise EOFError("The JPEG is cut off.")
        if marker[0] == b"\xff\xd9":
            return marker.end()
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return None
