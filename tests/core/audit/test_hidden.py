"""What lies where no viewer looks is found in every format; pictures as programs write them stay clean."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from faceprivacy_core.audit.icc import audit_icc
from faceprivacy_core.audit.jpeg import XMP_HEAD
from faceprivacy_core.audit.notes import Notes
from faceprivacy_core.audit.secrets import Secrets
from tests.support.audit import SUBJECT, chunk, encoded, exif, kinds, photoshop, written

HIDDEN = encoded("jpg", SUBJECT.resize((8, 8)))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _riff(kind: bytes, body: bytes) -> bytes:
    """A WebP with one chunk more."""
    plain = encoded("webp")
    added = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return plain[:4] + struct.pack("<I", len(plain) - 8 + len(added)) + plain[8:] + added


def _gif(label: int, name: bytes, body: bytes) -> bytes:
    """A GIF with one extension more, before its end."""
    parts = [body[at : at + 255] for at in range(0, len(body), 255)]
    blocks = b"".join(bytes([len(part)]) + part for part in [name, *parts])
    return encoded("gif")[:-1] + b"!" + bytes([label]) + blocks + b"\0;"


def _slack(data: bytes) -> bytes:
    """EXIF with bytes that no directory mentions."""
    return encoded("jpg", exif=exif() + data)


def _icc(tag: bytes, body: bytes) -> bytes:
    """A profile with one tag more."""
    (count,) = struct.unpack_from(">I", SRGB, 128)
    table = bytearray(SRGB[132 : 132 + 12 * count])
    for at in range(0, len(table), 12):
        (offset,) = struct.unpack_from(">I", table, at + 4)
        struct.pack_into(">I", table, at + 4, offset + 12)
    end = len(SRGB) + 12
    table += struct.pack(">4sII", tag, end, len(body))
    made = SRGB[:128] + struct.pack(">I", count + 1) + bytes(table) + SRGB[132 + 12 * count :] + body
    return struct.pack(">I", len(made)) + made[4:]


def _more_pixel_data(more: bytes, *, inside: bool) -> bytes:
    """A PNG whose pixel data go on, inside the compressed stream or behind it."""
    plain = encoded()
    start = plain.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", plain, start)
    stream = plain[start + 8 : start + 8 + length]
    stream = zlib.compress(zlib.decompress(stream) + more) if inside else stream + more
    made = struct.pack(">I", len(stream)) + b"IDAT" + stream + struct.pack(">I", zlib.crc32(b"IDAT" + stream))
    return plain[:start] + made + plain[start + 12 + length :]


def _bmp(*, before: bytes = b"", behind: bytes = b"", size: int | None = None) -> bytes:
    """A BMP with bytes before its pixels or behind them, of which its header knows."""
    plain = encoded("bmp")
    made = bytearray(plain[:54] + before + plain[54:] + behind)
    struct.pack_into("<I", made, 10, 54 + len(before))
    struct.pack_into("<I", made, 2, len(made) if size is None else size)
    return bytes(made)


def _inside_pixels_of_webp(body: bytes) -> bytes:
    plain = encoded("webp")
    content = plain[20:] + body
    inner = b"WEBP" + plain[12:16] + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def _segment(marker: int, body: bytes, *, gap: bytes = b"") -> bytes:
    """A JPEG with one segment more, behind its first."""
    plain = encoded("jpg")
    return plain[:20] + b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + gap + plain[20:]


def _long_end(body: bytes) -> bytes:
    made = struct.pack(">I", len(body)) + b"IEND" + body
    return encoded()[:-12] + made + struct.pack(">I", zlib.crc32(made[4:]))


def _tiff(tag: int) -> bytes:
    """A TIFF with such a tag, which holds another picture."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[tag], directory.tagtype[tag] = HIDDEN * 8, 7
    return encoded("tif", tiffinfo=directory)


def _long_strip() -> bytes:
    """A TIFF whose only strip says that it is longer than its pixels, and is."""
    plain = bytearray(encoded("tif"))
    with Image.open(io.BytesIO(plain)) as opened:
        (length,), (start,) = opened.tag_v2[279], opened.tag_v2[273]
    assert start + length == len(plain)
    place = plain.index(struct.pack("<HHII", 279, 4, 1, length)) + 8
    struct.pack_into("<I", plain, place, length + len(HIDDEN))
    return bytes(plain) + HIDDEN


def _twice() -> bytes:
    once = chunk(b"gAMA", struct.pack(">I", 45455))
    return once[:49] + once[33:]


def _packed(kind: bytes, head: bytes) -> bytes:
    """A PNG with a compressed chunk, and something behind its stream."""
    return chunk(kind, head + zlib.compress(SRGB if kind == b"iCCP" else b"text") + HIDDEN)


MEMBERS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "private tag of a tiff": ("tif", lambda: encoded("tif", tiffinfo={65000: HIDDEN}), "unread"),
    "layers in a tiff": ("tif", lambda: encoded("tif", tiffinfo={37724: HIDDEN}), "embedded"),
    "photoshop resources in a tiff": ("tif", lambda: encoded("tif", tiffinfo={34377: HIDDEN}), "embedded"),
    "behind a tiff": ("tif", lambda: encoded("tif") + HIDDEN, "unread"),
    "slack of exif": ("jpg", lambda: _slack(HIDDEN), "unread"),
    "slack of exif in png": ("png", lambda: encoded(exif=exif() + HIDDEN), "unread"),
    "slack of exif in webp": ("webp", lambda: encoded("webp", exif=exif() + HIDDEN), "unread"),
    "unknown chunk of webp": ("webp", lambda: _riff(b"ORIG", HIDDEN), "unread"),
    "second picture of webp": ("webp", lambda: _riff(b"VP8 ", HIDDEN), "embedded"),
    "application block of gif": ("gif", lambda: _gif(0xFF, b"ORIGINAL1.0", HIDDEN), "unread"),
    "long loop of gif": ("gif", lambda: _gif(0xFF, b"NETSCAPE2.0", HIDDEN), "unread"),
    "unknown extension of gif": ("gif", lambda: _gif(0x77, b"x", HIDDEN), "unread"),
    "private tag of a profile": ("jpg", lambda: encoded("jpg", icc_profile=_icc(b"orig", HIDDEN)), "unread"),
    "behind the tags of a profile": ("png", lambda: encoded(icc_profile=SRGB + HIDDEN), "unread"),
    "long text of a profile": ("webp", lambda: encoded("webp", icc_profile=_icc(b"cprt", HIDDEN * 20)), "unread"),
    "suggested palette": ("png", lambda: chunk(b"sPLT", b"x\0\x08" + HIDDEN), "unread"),
    "behind compressed pixels": ("png", lambda: _more_pixel_data(HIDDEN, inside=False), "unread"),
    **{
        f"in {kind}": ("png", lambda kind=kind: chunk(kind.encode(), HIDDEN), "unread")
        for kind in ["gAMA", "fdAT", "fcTL", "hIST", "bKGD", "iDOT", "oFFs", "sCAL", "cHRM", "tRNS", "cICP"]
    },
    "in the end of a png": ("png", lambda: _long_end(HIDDEN), "unread"),
    "a plain chunk twice": ("png", _twice, "unread"),
    "behind a compressed profile": ("png", lambda: _packed(b"iCCP", b"a\0\0"), "unread"),
    "behind a compressed text": ("png", lambda: _packed(b"zTXt", b"a\0\0"), "unread"),
    "behind a compressed international text": ("png", lambda: _packed(b"iTXt", b"a\0\1\0\0\0"), "unread"),
    "before the pixels of a bmp": ("bmp", lambda: _bmp(before=HIDDEN), "unread"),
    "behind the pixels of a bmp": ("bmp", lambda: _bmp(behind=HIDDEN), "trailing"),
    "behind the pixels of a bmp of no size": ("bmp", lambda: _bmp(behind=HIDDEN, size=0), "trailing"),
    "inside the pixels of a webp": ("webp", lambda: _inside_pixels_of_webp(HIDDEN), "embedded"),
    **{f"tag {tag} of a tiff": ("tif", lambda tag=tag: _tiff(tag), "unread") for tag in (400, 1234, 30000, 301, 532, 512, 347)},
    "behind the pixels of a strip": ("tif", _long_strip, "unread"),
    **{
        f"detail {tag} of exif": ("jpg", lambda tag=tag: encoded("jpg", exif=exif(details={tag: HIDDEN * 3})), "unread")
        for tag in (36864, 37121, 40000, 41484, 41730, 50000)
    },
    "unknown tag of exif": ("jpg", lambda: encoded("jpg", exif=exif({30001: HIDDEN})), "unread"),
    "tables of a profile": ("jpg", lambda: encoded("jpg", icc_profile=_icc(b"A2B0", HIDDEN)), "embedded"),
    "long JFIF": ("jpg", lambda: _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0" + HIDDEN), "unread"),
    "long Ducky": ("jpg", lambda: _segment(0xEC, b"Ducky" + HIDDEN), "unread"),
    "long Adobe": ("jpg", lambda: _segment(0xEE, b"Adobe" + HIDDEN), "unread"),
    "unknown segment": ("jpg", lambda: _segment(0xF0, HIDDEN), "unread"),
    "long tables": ("jpg", lambda: _segment(0xDD, b"\0\0" + HIDDEN * 9), "unread"),
    "between segments": ("jpg", lambda: _segment(0xFE, b"", gap=HIDDEN.replace(b"\xff", b"")), "unread"),
    "second XMP": ("jpg", lambda: _segment(0xE1, XMP_HEAD + b"<x/>")[:20] + _segment(0xE1, XMP_HEAD + b"<x/>")[20:], "xmp"),
    "resource of Photoshop": ("jpg", lambda: _segment(0xED, photoshop(0x0422, HIDDEN)[4:]), "unread"),
    "part of a profile": ("jpg", lambda: _segment(0xE2, b"ICC_PROFILE\0\2\3" + HIDDEN), "unread"),
    "behind unpacked pixels": ("png", lambda: _more_pixel_data(HIDDEN, inside=True), "unread"),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMBERS)
def test_what_lies_where_no_viewer_looks_is_found(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    suffix, make, expected = MEMBERS[name]
    assert expected in kinds(capsys, written(tmp_path, make(), suffix))


CLEAN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "profile": ("jpg", lambda: encoded("jpg", icc_profile=SRGB)),
    "profile in png": ("png", lambda: encoded(icc_profile=SRGB)),
    "profile in webp": ("webp", lambda: encoded("webp", icc_profile=SRGB)),
    "profile in tiff": ("tif", lambda: encoded("tif", icc_profile=SRGB)),
    "lossless webp": ("webp", lambda: encoded("webp", lossless=True)),
    "webp with alpha": ("webp", lambda: encoded("webp", SUBJECT.convert("RGBA"))),
    "compressed tiff": ("tif", lambda: encoded("tif", compression="tiff_lzw")),
    "grey png": ("png", lambda: encoded(subject=SUBJECT.convert("L"))),
    "black and white png": ("png", lambda: encoded(subject=SUBJECT.convert("1"))),
    "palette png": ("png", lambda: encoded(subject=SUBJECT.quantize(7))),
    "png with alpha": ("png", lambda: encoded(subject=SUBJECT.convert("RGBA"))),
    "orientation": ("jpg", lambda: encoded("jpg", exif=exif())),
    "resolution": ("jpg", lambda: encoded("jpg", dpi=(300, 300))),
    "bmp of 8 bits": ("bmp", lambda: encoded("bmp", SUBJECT.convert("L"))),
    "bmp with alpha": ("bmp", lambda: encoded("bmp", SUBJECT.convert("RGBA"))),
    "bmp of 1 bit": ("bmp", lambda: encoded("bmp", SUBJECT.convert("1"))),
    "progressive jpeg": ("jpg", lambda: encoded("jpg", SUBJECT.resize((300, 200)), progressive=True, optimize=True)),
    "grey jpeg": ("jpg", lambda: encoded("jpg", SUBJECT.convert("L"))),
    "jpeg of four inks": ("jpg", lambda: encoded("jpg", SUBJECT.convert("CMYK"))),
    "tiff of jpeg": ("tif", lambda: encoded("tif", compression="jpeg")),
    "palette tiff": ("tif", lambda: encoded("tif", SUBJECT.quantize(7))),
    "grey tiff": ("tif", lambda: encoded("tif", SUBJECT.convert("L"))),
    "black and white tiff": ("tif", lambda: encoded("tif", SUBJECT.convert("1"))),
    "tiff with alpha": ("tif", lambda: encoded("tif", SUBJECT.convert("RGBA"))),
    "gif with loop": ("gif", lambda: encoded("gif", loop=0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_pictures_as_programs_write_them_are_clean(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    suffix, make = CLEAN[name]
    assert kinds(capsys, written(tmp_path, make(), suffix)) == set()


@pytest.mark.parametrize("space", ["sRGB", "LAB", "XYZ"])
def test_profiles_of_a_library_are_colour_alone(space: str):
    notes = Notes(Secrets([]))
    audit_icc(ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes(), notes)
    assert not notes.found
