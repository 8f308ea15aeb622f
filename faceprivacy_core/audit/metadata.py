"""The three kinds of metadata that pictures of many formats share: EXIF, XMP and IPTC."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from .findings import KINDS, PERSONAL
from .names import kind_of
from .notes import Notes
from .text import MAX_TEXT_BYTES, audit_text, capped, decoded

EXTENDED_XMP, EXTENDED_XMP_HEAD = b"http://ns.adobe.com/xmp/extension/\0", 75
EXIF_START = b"Exif\0\0"
POINTERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop)
PLAIN_EXIF = re.compile(r"ExifVersion|FlashPixVersion|ColorSpace|ComponentsConfiguration|CompressedBitsPerPixel|ExifImage\w+")
IPTC = (
    ("person", (80, 85, 110, 115, 116, 118, 122)), ("location", (26, 27, 90, 92, 95, 100, 101)),
    ("date", (30, 35, 37, 38, 55, 60, 62, 63)), ("software", (65, 70)), ("text", (5, 7, 25, 40, 105, 120, 121)),
)  # fmt: skip


def load_exif(block: bytes) -> Image.Exif:
    """Parse a block of EXIF; damage raises or warns every time."""
    exif = Image.Exif()  # `getexif` says nothing when Pillow has met the damage before
    exif.load(block)
    return exif


def audit_exif(exif: Image.Exif, notes: Notes, *, has_thumbnail_ifd: bool = True) -> None:
    """Search the fields of EXIF. A TIFF's second directory is a page, not a thumbnail."""
    groups: dict[str, list[str]] = {}
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, value in [*dict(exif).items(), *details.items()]:
        name = ExifTags.TAGS.get(tag, f"tag {tag}")
        text = decoded(value) if isinstance(value, bytes) else value
        if tag in POINTERS or PLAIN_EXIF.fullmatch(name) or (isinstance(text, str) and not text.strip("\0 ")):
            continue
        kind = kind_of(name) or ("device" if tag in details else None)
        before = len(notes.found)
        if isinstance(text, str) and kind != "serial":
            audit_text(text, f"EXIF {name}", notes)
        if kind and (len(notes.found) == before or KINDS[kind].level == PERSONAL):
            groups.setdefault(kind, []).append(name)
    places = [ExifTags.GPSTAGS.get(tag, f"tag {tag}") for tag in exif.get_ifd(ExifTags.IFD.GPSInfo) if tag != 0]
    if places:
        groups.setdefault("location", []).extend(places)
    for kind, names in groups.items():
        notes.add(kind, f"EXIF {', '.join(dict.fromkeys(names))}")
    if has_thumbnail_ifd and exif.get_ifd(ExifTags.IFD.IFD1):
        notes.add("embedded", "EXIF thumbnail (IFD1)")


def find_xmp(picture: Any, data: bytes) -> list[bytes]:
    """Return the XMP that Pillow knows of, the extension of JPEG, else what looks like XMP in the bytes."""
    packets = [picture.info[name] for name in ("xmp",) if picture.info.get(name)]
    segments = [body for _, body in getattr(picture, "applist", ()) if body.startswith(EXTENDED_XMP)]
    if segments:
        packets.append(b"".join(body[EXTENDED_XMP_HEAD:] for body in segments))
    start = -1 if packets else data.find(b"<x:xmpmeta")
    while start >= 0:
        end = data.find(b"</x:xmpmeta>", start)
        packets.append(data[start : end if end >= 0 else start + MAX_TEXT_BYTES])
        start = data.find(b"<x:xmpmeta", start + len(packets[-1]))
    return packets


def audit_xmp(packet: str, notes: Notes) -> None:
    """Search an XMP packet by the names in it; a parser of XML would only offer ways to attack it."""
    notes.add("xmp", "XMP")
    notes.add_names(notes.secrets.names_in_text(html.unescape(capped(packet))), "XMP")
    groups: dict[str, list[str]] = {}
    for prefix, name in re.findall(r"[<\s]([\w-]+):([\w.-]+)(?=[\s>/=])", packet):
        kind = kind_of(f"{prefix}:{name}", name)
        if kind and prefix not in ("rdf", "xml", "xmlns"):
            groups.setdefault(kind, []).append(notes.label(name))
    for kind, names in groups.items():
        notes.add(kind, f"XMP {', '.join(dict.fromkeys(names))}")
    for piece in re.findall(r""">([^<]{2,})<|="([^"]{2,})"|='([^']{2,})'""", packet):
        audit_text(html.unescape("".join(piece)), "XMP", notes)


def audit_iptc(fields: Mapping[tuple[int, int], Any], notes: Notes) -> None:
    """Search the fields of IPTC, which are numbered by record and field."""
    for kind, numbers in IPTC:
        found = [f"2:{number}" for number in numbers if fields.get((2, number))]
        if found:
            notes.add(kind, f"IPTC {', '.join(found)}")
    for (record, number), value in fields.items():
        for text in value if isinstance(value, list) else [value]:
            audit_text(decoded(text), f"IPTC {record}:{number}", notes)
