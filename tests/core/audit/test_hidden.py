"""What lies where no viewer looks is found in every format; pictures as programs write them stay clean."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import ImageCms

from faceprivacy_core.audit.icc import audit_icc
from faceprivacy_core.audit.notes import Notes
from faceprivacy_core.audit.secrets import Secrets
from tests.support.audit import SUBJECT, chunk, encoded, exif, kinds, written

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
