"""What is sealed: its length says nothing, and what is opened goes to the face's own pixels and nowhere else."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.errors import FormatError, PictureSizeError
from faceprivacy_core.keyed.container import KeyedFaceRecord
from faceprivacy_core.keyed.decrypt import decrypt_faces, face_key_of
from faceprivacy_core.keyed.files import read_keyed
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.payloads import read_packed_pixels, read_pixels, restore_pixels, write_pixels
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.sealing import seal
from tests.core.keyed.scenes import EXACT, HEIGHT, KEY, LATENT, LEFT, RIGHT, WIDTH, encrypt, reloaded, scene
from tests.core.keyed.test_vectors import VECTORS
from tests.support.independent_reader import chunk_of, latent_of, open_exact, payloads_of
from tests.support.vectors import original


@pytest.mark.parametrize("mode", [EXACT, LATENT], ids=lambda mode: mode.value)
def test_the_length_of_a_payload_says_nothing_about_its_content(mode: RecoveryMode):
    faces = encrypt(LEFT, RIGHT, mode=mode, verify=False).picture
    (claim, _), (face, _) = faces.claims, faces.faces
    if mode is EXACT:
        contents = [scene(), np.zeros_like(scene()), np.random.default_rng(0).integers(0, 256, scene().shape, dtype=np.uint8)]
        assert {len(write_pixels(picture, claim)) for picture in contents} == {len(face.payload)}
        assert len(face.payload) == 3 * int(claim.owned.sum())
    else:
        assert len(face.payload) == 6 + 2 * 12 * 64


def test_pixels_go_back_to_the_claim_and_nowhere_else():
    claim = encrypt(LEFT, mode=EXACT, verify=False).picture.claims[0]
    count = int(claim.owned.sum())
    picture = scene()
    result = restore_pixels(picture, claim, np.zeros((count, 3), np.uint8))
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[claim.rows, claim.columns] = claim.owned
    assert (result[inside] == 0).all()
    assert np.array_equal(result[~inside], picture[~inside])
    assert np.array_equal(restore_pixels(result, claim, read_pixels(write_pixels(picture, claim), claim)), picture)
    for length in (0, 3 * count - 1, 3 * count + 3, 4 * count):
        with pytest.raises(FormatError):
            read_pixels(bytes(length), claim)


# Version 1, whose payload is a PNG


def old_face() -> KeyedPicture:
    return KeyedPicture.from_container(*read_keyed(VECTORS / "v1" / "passphrase.png"))


def packed(corner: tuple[int, int], rgba: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    return struct.pack("<II", *corner) + file.getvalue()


def test_an_old_released_key_reaches_no_further_than_its_face():
    picture = KeyedPicture.from_container(*read_keyed(VECTORS / "v1" / "exact.png"))
    record, claim = picture.faces[0], picture.claims[0]
    stored, face_key = record.header.to_bytes(), face_key_of(picture, 0, KEY)
    height, width = picture.pixels.shape[:2]
    everything = packed((0, 0), np.full((height, width, 4), 255, np.uint8))
    more = np.dstack([np.zeros((*claim.owned.shape, 3), np.uint8), np.full(claim.owned.shape, 255, np.uint8)])
    for payload in (everything, packed((claim.rows.start, claim.columns.start), more)):
        blob = seal(face_key, stored, payload, picture.binding(record.header.bind))
        with pytest.raises(FormatError):
            decrypt_faces(KeyedPicture(picture.pixels, (KeyedFaceRecord(record.header, blob), picture.faces[1])), KEY)


def header_of(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (50_000, 50_000), (20_000, 10_000), (1, 1), (0, 0)])
def test_a_png_inside_that_claims_another_size_is_refused_before_memory_is_taken(size: tuple[int, int]):
    claim = old_face().claims[0]
    corner = struct.pack("<II", claim.rows.start, claim.columns.start)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError):
        read_packed_pixels(corner + header_of(*size) + bytes(100), claim)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert seconds < 1.0


def test_damaged_payloads_of_version_1_are_our_error():
    claim = old_face().claims[0]
    corner = struct.pack("<II", claim.rows.start, claim.columns.start)
    size = claim.owned.shape[::-1]
    for payload in (b"", corner, corner + header_of(*size), corner + header_of(*size) + bytes(500), bytes(4000)):
        with pytest.raises(FormatError):
            read_packed_pixels(payload, claim)


# Sizes, and another program


def test_a_resized_picture_is_refused_with_both_sizes():
    picture = encrypt(mode=EXACT, verify=False).picture
    container = picture.container()
    for size in ((WIDTH // 2, HEIGHT // 2), (WIDTH, HEIGHT - 1)):
        resized = np.asarray(Image.fromarray(picture.pixels).resize(size))
        with pytest.raises(PictureSizeError, match=rf"{WIDTH} x {HEIGHT} pixels, got {size[0]} x {size[1]}"):
            KeyedPicture.from_container(resized, container)
    assert reloaded(picture).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("name", "key"), [("exact", bytes(range(32))), ("passphrase", "correct horse battery"), ("alpha", bytes(range(32)))]
)
def test_a_program_written_from_the_document_opens_them(name: str, key: bytes | str):
    path = VECTORS / "v3" / f"{name}.png"
    pixels, _ = read_keyed(path)
    assert np.array_equal(open_exact(path.read_bytes(), pixels, key), original())


def test_such_a_program_reads_latents_moments_and_sidecars():
    key, pixels = bytes(range(32)), {}
    for name in ("latent", "image", "unbound"):
        pixels[name], _ = read_keyed(VECTORS / "v3" / f"{name}.png")
    (_, payload), *others = payloads_of(chunk_of((VECTORS / "v3" / "latent.png").read_bytes()), pixels["latent"], key)
    assert not others
    latent = latent_of(payload)
    assert latent.shape[1] == latent.shape[2]
    assert np.isfinite(latent).all()
    (fields, payload), *_ = payloads_of(chunk_of((VECTORS / "v3" / "image.png").read_bytes()), pixels["image"], key)
    assert fields["mode"] == "image"
    mean, scale = np.frombuffer(payload, "<f8").reshape(-1, 2).T
    assert (scale > abs(mean)).all()
    (fields, payload), *_ = payloads_of((VECTORS / "v3" / "unbound.fprv").read_bytes(), pixels["unbound"], key)
    assert fields["bind"] == "none"
    assert np.array_equal(latent_of(payload), latent)
