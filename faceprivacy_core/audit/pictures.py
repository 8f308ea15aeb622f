"""Pictures other than PNG: their metadata, their further pictures, and where they end."""

from __future__ import annotations

import io
from typing import Any

from PIL import IptcImagePlugin

from .blocks import audit_trailing
from .bmp import audit_bmp
from .containers import audit_gif, audit_webp
from .icc import audit_icc
from .jpeg import audit_segments, end_of_jpeg
from .metadata import EXIF_START, audit_exif, audit_iptc, audit_xmp, find_xmp, load_exif
from .notes import Notes
from .text import audit_free_text, decoded
from .tiff import audit_tiff_bytes

BLOCKS = {"WEBP": audit_webp, "GIF": audit_gif, "BMP": audit_bmp}


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
            audit_segments(picture, data, notes)
    elif picture.info.get("comment"):
        audit_free_text(decoded(picture.info["comment"]), f"{picture.format} comment", notes)


def _end_of_image(kind: str, data: bytes, stream: WatchedBytes) -> int | None:
    """Return where the image ends, None where its format does not say."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "GIF":
        return stream.furthest  # counting the frames has read it to its end
    if kind == "JPEG":
        return end_of_jpeg(data)
    return None
