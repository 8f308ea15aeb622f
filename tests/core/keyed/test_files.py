"""Keyed pictures on disk: exact pixels, nothing but the payload beside them, whole files or none."""

from __future__ import annotations

import io
import random
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from faceprivacy_core import files as whole_files
from faceprivacy_core import picture_files
from faceprivacy_core.errors import FormatError, InputError
from faceprivacy_core.keyed import files
from faceprivacy_core.keyed.files import read_keyed, sidecar_path, write_png, write_sidecar

PAYLOAD = b"FPRV1\0" + bytes(range(256)) * 20


def picture(channels: int = 3, height: int = 9, width: int = 13) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of every chunk; checks each checksum."""
    found, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length)[0] == zlib.crc32(kind + content)
        found.append((kind, content))
        place += length + 12
    return found


def plain_png(path: Path, pixels: np.ndarray, *payloads: bytes, after_idat: bool = False) -> Path:
    info = PngInfo()
    for payload in payloads:
        info.add(files.CHUNK, payload, after_idat=after_idat)
    Image.fromarray(pixels).save(path, pnginfo=info)
    return path


def raw_png(path: Path, *parts: tuple[bytes, bytes]) -> Path:
    """A PNG of the given chunks, with sound checksums."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in (*parts, (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (9, 13), (64, 200)])
def test_pixels_and_payload_come_back_exactly(channels: int, size: tuple[int, int], tmp_path: Path):
    pixels = picture(channels, *size)
    write_png(tmp_path / "a.png", pixels, PAYLOAD)
    read, payload = read_keyed(tmp_path / "a.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)
    assert payload == PAYLOAD


@given(payload=st.binary(max_size=3000))
@settings(deadline=None, max_examples=30)
def test_any_payload_comes_back(payload: bytes, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("files") / "a.png"
    write_png(path, picture(), payload)
    assert read_keyed(path)[1] == payload


def test_a_large_payload_comes_back(tmp_path: Path):
    payload = random.Random(1).randbytes(5 * 2**20)
    write_png(tmp_path / "a.png", picture(), payload)
    assert read_keyed(tmp_path / "a.png")[1] == payload


def test_the_file_holds_the_chunk_as_given_before_the_pixels_and_nothing_else(tmp_path: Path):
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    found = chunks((tmp_path / "a.png").read_bytes())
    assert [kind for kind, _ in found] == [b"IHDR", b"fpRv", b"IDAT", b"IEND"]
    assert found[1][1] == PAYLOAD


def test_text_is_written_when_asked_for(tmp_path: Path):
    write_png(tmp_path / "a.png", picture(), PAYLOAD, text={"Comment": "pseudonymised", "Title": "Ω"})
    kinds = [kind for kind, _ in chunks((tmp_path / "a.png").read_bytes())]
    assert kinds == [b"IHDR", b"tEXt", b"iTXt", b"fpRv", b"IDAT", b"IEND"]
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.text == {"Comment": "pseudonymised", "Title": "Ω"}
    assert read_keyed(tmp_path / "a.png")[1] == PAYLOAD


def test_arrays_in_any_memory_order_are_written(tmp_path: Path):
    pixels = picture(4)[::-1, ::2, :3]
    write_png(tmp_path / "a.png", pixels, PAYLOAD)
    np.testing.assert_array_equal(read_keyed(tmp_path / "a.png")[0], pixels)


@pytest.mark.parametrize(
    "pixels",
    [picture()[..., 0], picture(2), picture(5), picture().astype(np.float32), picture()[:0], picture()[None]],
    ids=lambda pixels: str(pixels.shape),
)
def test_other_pixels_are_refused(pixels: np.ndarray, tmp_path: Path):
    with pytest.raises(InputError, match="uint8 pixels"):
        write_png(tmp_path / "a.png", pixels, PAYLOAD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keyword", ["", "x" * 80, "ü", " a", "a\n", "a\0b"])
def test_keywords_that_png_does_not_allow_are_refused(keyword: str, tmp_path: Path):
    with pytest.raises(InputError, match="PNG keyword"):
        write_png(tmp_path / "a.png", picture(), PAYLOAD, text={keyword: "x"})


def test_pictures_and_payloads_over_a_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    write_sidecar(tmp_path / "a.fprv", PAYLOAD)
    with monkeypatch.context() as patch:
        for limit in (100, 20):  # Pillow itself refuses from twice its limit on
            patch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            patch.setattr(picture_files, "MAX_PIXELS", limit)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with pytest.raises(InputError, match="Reduce it first"):
                    read_keyed(tmp_path / "a.png")
            with pytest.raises(InputError, match="Reduce it first"):
                write_png(tmp_path / "b.png", picture(), PAYLOAD)
    monkeypatch.setattr(files, "MAX_CONTAINER_BYTES", 10)
    for write in (lambda: write_png(tmp_path / "b.png", picture(), PAYLOAD), lambda: write_sidecar(tmp_path / "b", PAYLOAD)):
        with pytest.raises(InputError, match="at most"):
            write()
    with pytest.raises(FormatError):
        read_keyed(tmp_path / "a.png", tmp_path / "a.fprv")


# Where the payload comes from


def test_a_sidecar_beside_the_picture_is_found(tmp_path: Path):
    plain_png(tmp_path / "a.b.png", picture())
    assert sidecar_path(tmp_path / "a.b.png") == tmp_path / "a.b.fprv"
    write_sidecar(tmp_path / "a.b.fprv", PAYLOAD)
    assert read_keyed(tmp_path / "a.b.png")[1] == PAYLOAD


def test_the_picture_comes_before_the_sidecar_beside_it_and_a_named_one_before_both(tmp_path: Path):
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    write_sidecar(tmp_path / "a.fprv", b"beside")
    write_sidecar(tmp_path / "named", b"named")
    assert read_keyed(tmp_path / "a.png")[1] == PAYLOAD
    assert read_keyed(tmp_path / "a.png", tmp_path / "named")[1] == b"named"


def test_a_sidecar_serves_a_jpeg(tmp_path: Path):
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    write_sidecar(tmp_path / "a.fprv", PAYLOAD)
    pixels, payload = read_keyed(tmp_path / "a.jpg")
    assert pixels.shape == (9, 13, 3)
    assert payload == PAYLOAD


def test_a_chunk_behind_the_pixels_is_found(tmp_path: Path):
    assert read_keyed(plain_png(tmp_path / "a.png", picture(), PAYLOAD, after_idat=True))[1] == PAYLOAD


def test_no_payload_and_two_payloads_are_refused(tmp_path: Path):
    with pytest.raises(FormatError):
        read_keyed(plain_png(tmp_path / "none.png", picture()))
    with pytest.raises(FormatError):
        read_keyed(plain_png(tmp_path / "two.png", picture(), PAYLOAD, PAYLOAD))


def test_a_named_sidecar_must_be_there(tmp_path: Path):
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    with pytest.raises(InputError, match="Expected a sidecar at"):
        read_keyed(tmp_path / "a.png", tmp_path / "missing.fprv")


# Which pictures are read


def test_pixels_are_not_turned_and_a_palette_is_looked_up(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "turned.png", exif=exif)
    write_sidecar(tmp_path / "turned.fprv", PAYLOAD)
    np.testing.assert_array_equal(read_keyed(tmp_path / "turned.png")[0], picture())
    few = np.zeros((4, 4, 3), dtype=np.uint8)
    few[1:3] = (10, 200, 30)
    Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    write_sidecar(tmp_path / "palette.fprv", PAYLOAD)
    np.testing.assert_array_equal(read_keyed(tmp_path / "palette.png")[0], few)


def test_other_kinds_of_picture_are_refused(tmp_path: Path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "16bit.png")
    raw_png(tmp_path / "deep.png", (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(7))))
    frames = [Image.fromarray(picture()), Image.fromarray(picture() // 2)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    Image.fromarray(picture(4)).convert("CMYK").save(tmp_path / "ink.jpg")
    for name, reason in (("16bit.png", "8 bits"), ("deep.png", "8 bits"), ("moving.png", "2 frames"), ("ink.jpg", "CMYK")):
        with pytest.raises(InputError, match=reason):
            read_keyed(tmp_path / name)


def test_missing_and_foreign_files_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="there is no such file"):
        read_keyed(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(InputError, match="none that can be read"):
        read_keyed(tmp_path / "a.png")
    with pytest.raises(InputError):
        read_keyed(tmp_path)


def test_a_damaged_picture_is_an_input_error_whatever_the_damage(tmp_path: Path):
    write_png(tmp_path / "a.png", picture(3, 40, 40), PAYLOAD, text={"Comment": "x"})
    data, numbers, refused = (tmp_path / "a.png").read_bytes(), random.Random(4), 0
    for step in range(400):
        place = numbers.randrange(len(data))
        damaged = data[:place] if step % 2 else data[:place] + numbers.randbytes(4) + data[place + 4 :]
        (tmp_path / "b.png").write_bytes(damaged)
        try:
            read_keyed(tmp_path / "b.png")
        except (InputError, FormatError):
            refused += 1
    assert refused > 200


def test_sound_checksums_do_not_make_a_damaged_picture_sound(tmp_path: Path):
    start = (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = (b"IDAT", zlib.compress(bytes(4)))
    assert read_keyed(raw_png(tmp_path / "a.png", start, (files.CHUNK, PAYLOAD), pixels))[1] == PAYLOAD
    bomb = (b"zTXt", b"a\0\0" + zlib.compress(bytes(70 * 2**20)))
    for parts in (
        [start, (b"sRGB", b""), pixels], [start, bomb, pixels], [start], [pixels], [start, (b"IDAT", b"x")],
        [start, (b"IDAT", zlib.compress(b"")), (files.CHUNK, PAYLOAD)], [(b"IHDR", start[1][:5]), pixels],
    ):  # fmt: skip
        with pytest.raises(InputError):
            read_keyed(raw_png(tmp_path / "a.png", *parts))


# Whole files or none


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    before = (tmp_path / "a.png").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, failing, fail)
    for path in (tmp_path / "a.png", tmp_path / "new.png"):
        with pytest.raises(InputError, match="No space left"):
            write_png(path, picture(4), PAYLOAD)
    with pytest.raises(InputError, match="No space left"):
        write_sidecar(tmp_path / "a.fprv", PAYLOAD)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_stopping_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_files.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_png(tmp_path / "a.png", picture(), PAYLOAD)
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_are_on_disk_before_the_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = []
    replace, fsync = whole_files.os.replace, whole_files.os.fsync
    monkeypatch.setattr(whole_files.os, "fsync", lambda number: steps.append("fsync") or fsync(number))
    monkeypatch.setattr(whole_files.os, "replace", lambda *paths: steps.append(paths) or replace(*paths))
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    assert steps[0] == "fsync"
    assert steps[1][0].parent == steps[1][1].parent == tmp_path


def test_an_existing_file_is_replaced(tmp_path: Path):
    for pixels in (picture(), picture(4)):
        write_png(tmp_path / "a.png", pixels, PAYLOAD)
        assert read_keyed(tmp_path / "a.png")[0].shape == pixels.shape


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_picture_has_the_usual_rights(tmp_path: Path):
    (tmp_path / "usual").write_bytes(b"")
    write_png(tmp_path / "a.png", picture(), PAYLOAD)
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="Expected to write"):
        write_png(tmp_path / "missing" / "a.png", picture(), PAYLOAD)


def test_pillow_writes_and_reads_private_chunks_as_this_module_needs():
    info = PngInfo()
    info.add(files.CHUNK, PAYLOAD, after_idat=False)
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, format="PNG", pnginfo=info)
    with Image.open(stream) as opened:
        opened.load()
        assert opened.private_chunks == [(files.CHUNK, PAYLOAD)]


def test_a_picture_without_keyed_faces_is_written_plain(tmp_path: Path):
    write_png(tmp_path / "plain.png", np.zeros((4, 5, 3), np.uint8), None)
    with pytest.raises(FormatError):
        read_keyed(tmp_path / "plain.png")
