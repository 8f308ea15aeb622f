"""The one reader of pictures: what it keeps, and what it refuses by name."""

from __future__ import annotations

import ast
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from faceprivacy_core import picture_files
from faceprivacy_core.errors import InputError
from faceprivacy_core.picture_files import Look, is_grey, png_bytes, read_picture_file

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def saved(path: Path, picture: Image.Image = PICTURE, **options: object) -> Path:
    picture.save(path, **options)
    return path


def test_pixels_profile_and_resolution_are_kept(tmp_path: Path):
    profile = b"a profile " * 20
    read = read_picture_file(saved(tmp_path / "a.png", icc_profile=profile, dpi=(300, 300)))
    np.testing.assert_array_equal(read.pixels, PIXELS)
    assert read.look.icc == profile
    assert read.look.dpi == pytest.approx((300, 300), abs=0.02)
    (tmp_path / "b.png").write_bytes(png_bytes(read.pixels, read.look))
    assert read_picture_file(tmp_path / "b.png").look == read.look


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_a_picture_without_colour_is_written_without_colour(mode: str, tmp_path: Path):
    read = read_picture_file(saved(tmp_path / "a.png", PICTURE.convert("L").convert(mode)))
    assert read.look.is_grey
    assert is_grey(read.pixels)
    with Image.open(io.BytesIO(png_bytes(read.pixels, read.look))) as written:
        assert written.mode == "L"
    with Image.open(io.BytesIO(png_bytes(PIXELS, read.look))) as written:
        assert written.mode == "RGB"


def test_nothing_that_was_not_asked_for_is_written(tmp_path: Path):
    with Image.open(io.BytesIO(png_bytes(PIXELS))) as written:
        assert written.info == {}
        np.testing.assert_array_equal(np.asarray(written), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_or_left_as_they_are_stored(orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", exif=exif)
    from PIL import ImageOps

    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_picture_file(path).pixels, expected)
    np.testing.assert_array_equal(read_picture_file(path, upright=False).pixels, PIXELS)


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 64,
     b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 5, 1, 0xFFFF)],
)  # fmt: skip
def test_damaged_exif_stops_nothing(block: bytes, tmp_path: Path):
    for name in ("a.jpg", "a.png", "a.webp"):
        read = read_picture_file(saved(tmp_path / name, exif=block))
        assert read.pixels.shape == PIXELS.shape


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animated_pictures_are_refused_with_their_number_of_frames(kind: str, tmp_path: Path):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    other = PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    path = saved(tmp_path / f"a.{kind.lower()}", save_all=True, append_images=[other], format=kind)
    with pytest.raises(InputError, match="2 frames"):
        read_picture_file(path)


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("a.jpg", PICTURE.convert("CMYK"), "CMYK"),
        ("a.tif", PICTURE.convert("LAB"), "LAB"),
        ("a.png", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "8 bits"),
        ("a.tif", PICTURE.convert("F"), "8 bits"),
    ],
)
def test_other_inks_and_depths_are_refused_by_name(name: str, picture: Image.Image, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        read_picture_file(saved(tmp_path / name, picture))


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
def test_heic_is_refused_by_name_with_what_to_do(brand: bytes, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(64))
    with pytest.raises(InputError, match=r"HEIC\. Save it as JPEG or PNG"):
        read_picture_file(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "content",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n", b"%PDF-1.4\n", b"<svg/>", b"",
     b"P6 2 2 255 " + bytes(12),
     b"/* XPM */\n"],
)  # fmt: skip
def test_nothing_but_known_formats_is_opened(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a reader ran a program"))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="none that can be read"):
        read_picture_file(tmp_path / "a.png")


def test_no_reader_of_the_pack_guesses_the_format():
    """Without a list Pillow tries all it knows, one of which runs another program."""
    sources = [path for folder in ("faceprivacy_core", "nodes") for path in (ROOT / folder).rglob("*.py")]
    calls = [node for path in sources for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    opened = [node for node in calls if ast.unparse(node.func).endswith("Image.open")]
    assert len(opened) >= 3
    assert all("formats" in [keyword.arg for keyword in node.keywords] for node in opened)


def test_limits_are_checked_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with monkeypatch.context() as patch:
        patch.setattr(picture_files, "MAX_PIXELS", 599)
        with pytest.raises(InputError, match="at most 599 pixels"):
            read_picture_file(path)
    monkeypatch.setattr(picture_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="MiB"):
        read_picture_file(path)


def test_a_short_file_that_claims_much_is_refused_and_a_blank_large_picture_is_not(tmp_path: Path):
    for name, mode in (("a.png", "RGB"), ("b.jpg", "RGB"), ("c.png", "L")):
        Image.new(mode, (5000, 4000), 255).save(tmp_path / name)
        assert read_picture_file(tmp_path / name).pixels.shape == (4000, 5000, 3)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 9999, 9999)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "claims.png").write_bytes(content[:1000])
    saved(tmp_path / "small.gif")
    (tmp_path / "claims.gif").write_bytes(
        b"GIF89a" + struct.pack("<HH", 9999, 9999) + (tmp_path / "small.gif").read_bytes()[10:]
    )
    for name in ("claims.png", "claims.gif"):
        with pytest.raises(InputError, match=r"9999 x 9999 pixels in \d+ bytes"):
            read_picture_file(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_pixels_are_the_same_in_bands(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noise = np.random.default_rng(0).integers(0, 256, (23, 31, 4), dtype=np.uint8)
    options = {"transparency": 3} if mode == "P" else {}
    Image.fromarray(noise).convert("RGB" if mode == "P" else mode).convert(mode).save(tmp_path / "a.png", **options)
    whole = read_picture_file(tmp_path / "a.png")
    monkeypatch.setattr(picture_files, "BAND_PIXELS", 100)
    banded = read_picture_file(tmp_path / "a.png")
    assert np.array_equal(banded.pixels, whole.pixels)
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(whole.pixels, np.asarray(opened.convert("RGBA"))[..., :3])
    assert (whole.alpha is None) == (banded.alpha is None) == (mode in ("RGB", "L", "1"))
    assert whole.alpha is None or np.array_equal(banded.alpha, whole.alpha)


def test_no_file_a_folder_and_a_link_to_itself_are_named(tmp_path: Path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    for path in (tmp_path / "gone.png", tmp_path, tmp_path / "loop.png"):
        with pytest.raises(InputError, match="Expected"):
            read_picture_file(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damage_of_any_kind_raises_no_foreign_error(kind: str, tmp_path: Path):
    stream = io.BytesIO()
    PICTURE.save(stream, kind)
    whole, dice = stream.getvalue(), random.Random(kind)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (tmp_path / "a").write_bytes(data[: dice.randint(len(data) // 2, len(data))])
        try:
            read_picture_file(tmp_path / "a")
        except InputError:
            refused += 1
    assert refused > 0


def test_pixels_of_another_kind_are_not_written():
    for pixels in (PIXELS.astype(float), PIXELS[..., 0], PIXELS[:0]):
        with pytest.raises(InputError, match="uint8"):
            png_bytes(pixels, Look())
