"""Encrypting and decrypting whole pictures: laws, wrong keys, changed files."""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np
import pytest
import torch

from faceprivacy_core.errors import (
    FormatError,
    InputError,
    ModelMismatchError,
    NoFaceError,
    NumericalError,
    TamperedError,
    WrongKeyError,
)
from faceprivacy_core.keyed.container import KeyedFaceRecord
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.sealing import unseal
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_psnr
from faceprivacy_core.types import Face
from tests.core.keyed.scenes import (
    EXACT,
    HEIGHT,
    IMAGE,
    KEY,
    LATENT,
    LEFT,
    MODEL,
    OTHER,
    RIGHT,
    SIGNFLIP,
    WIDTH,
    encrypt,
    faces_of,
    owned,
    reloaded,
    scene,
)
from tests.support.faces import synthetic_face
from tests.support.keyed import RAW_KEY, MixtureKeyedModel


@pytest.mark.parametrize("mode", [EXACT, LATENT, IMAGE, SIGNFLIP])
def test_outside_the_faces_every_byte_stays(mode: RecoveryMode):
    result = encrypt(LEFT, RIGHT, mode=mode, verify=False)
    opened = decrypt_faces(reloaded(result.picture), KEY, MODEL)
    outside = ~owned(result.picture)
    assert np.array_equal(result.picture.pixels[outside], scene()[outside])
    assert np.array_equal(opened.pixels[outside], scene()[outside])
    assert not np.array_equal(result.picture.pixels, scene())
    assert opened.opened == (0, 1)


@pytest.mark.parametrize("place", [(60, 66), (8, 60), (205, 128), (105, 3)])
def test_exact_gives_every_byte_back(place: tuple[float, float]):
    face = synthetic_face(*place, 70, angle_deg=9)
    result = encrypt(face, mode=EXACT)
    assert np.array_equal(decrypt_faces(reloaded(result.picture), KEY).pixels, scene())
    assert result.reports[0].recovered_psnr == float("inf")


def test_latent_gives_the_autoencoder_round_trip():
    result = encrypt(LEFT, RIGHT)
    recovered = decrypt_faces(reloaded(result.picture), KEY, MODEL).pixels
    for number, report in enumerate(result.reports):
        measured = compute_psnr(scene(), recovered, owned(result.picture, number))
        assert measured == pytest.approx(report.recovered_psnr)
        assert measured >= report.bound_psnr - 0.5
        assert measured > report.cover_psnr + 3


def test_image_comes_back_through_eight_bits_with_nothing_sealed_but_two_numbers():
    result = encrypt(steps=40, iterations=20, mode=IMAGE)
    (report,) = result.reports
    assert report.payload_bytes == 16
    assert report.recovered_psnr >= report.bound_psnr - 2.0
    assert report.recovered_psnr > report.cover_psnr + 10
    recovered = decrypt_faces(reloaded(result.picture), KEY, MODEL).pixels
    assert compute_psnr(scene(), recovered, owned(result.picture)) == pytest.approx(report.recovered_psnr)


@pytest.mark.parametrize("mode", [EXACT, LATENT, IMAGE, SIGNFLIP])
def test_another_key_is_refused_before_anything_runs(mode: RecoveryMode):
    picture = reloaded(encrypt(mode=mode, verify=False).picture)
    calls = MODEL.calls
    with pytest.raises(WrongKeyError, match="Expected the key") as caught:
        decrypt_faces(picture, OTHER, MODEL)
    assert MODEL.calls == calls
    assert str(caught.value) == WrongKeyError.text
    with pytest.raises(WrongKeyError, match=r" The key tried was 'mine'\.$"):
        decrypt_faces(picture, PrivacyKey.from_bytes(bytes(32), "mine"), MODEL, which=[0])


def test_a_passphrase_opens_and_a_raw_key_does_not():
    passphrase = PrivacyKey.from_passphrase("correct horse")
    picture = reloaded(encrypt(key=passphrase, mode=EXACT, verify=False).picture)
    assert np.array_equal(decrypt_faces(picture, PrivacyKey.from_passphrase("correct horse")).pixels, scene())
    for key in (KEY, PrivacyKey.from_passphrase("correct horse ")):
        with pytest.raises(WrongKeyError):
            decrypt_faces(picture, key)


def test_each_key_opens_its_own_face():
    first = encrypt(LEFT, mode=EXACT).picture
    both = reloaded(encrypt(RIGHT, key=OTHER, onto=first, mode=EXACT).picture)
    opened = decrypt_faces(both, KEY)
    assert opened.opened == (0,)
    left, right = owned(both, 0), owned(both, 1)
    assert np.array_equal(opened.pixels[left], scene()[left])
    assert np.array_equal(opened.pixels[right], both.pixels[right])
    with pytest.raises(WrongKeyError):
        decrypt_faces(both, KEY, which=[1])
    assert np.array_equal(decrypt_faces(both, OTHER, onto=opened.pixels).pixels, scene())


def test_the_released_key_of_one_face_opens_that_one():
    result = encrypt(LEFT, RIGHT, mode=EXACT)
    picture = reloaded(result.picture)
    header = picture.headers[1]
    released = PrivacyKey.from_face_key(KEY.face_key(header.kdf, header.nonce, header.to_bytes()).reveal())
    assert decrypt_faces(picture, released).opened == (1,)
    with pytest.raises(InputError, match="only opens"):
        encrypt(key=released)


def test_faces_encrypted_apart_do_not_see_each_other():
    """What is sealed for one face must not show a neighbour under another key."""
    near = synthetic_face(88, 66, 80)
    pixels = scene()
    together = encrypt_faces(
        KeyedPicture(pixels), faces_of(LEFT, near), draw_masks(faces_of(LEFT, near), MaskSettings())[:, None],
        KEY, MODEL, EncryptSettings(steps=4, verify=False),
    ).picture  # fmt: skip
    changed = pixels.copy()
    theirs = owned(together, 1)
    changed[theirs] = 255 - changed[theirs]
    again = encrypt_faces(
        KeyedPicture(changed), faces_of(LEFT, near), draw_masks(faces_of(LEFT, near), MaskSettings())[:, None],
        KEY, MODEL, EncryptSettings(steps=4, verify=False),
    ).picture  # fmt: skip
    assert together.faces[0].payload == again.faces[0].payload
    assert together.faces[1].payload != again.faces[1].payload


def test_an_independent_cover_does_not_depend_on_the_face(monkeypatch: pytest.MonkeyPatch):
    nonces = iter([b"n" * 16] * 2)
    monkeypatch.setattr("faceprivacy_core.keyed.encrypt.new_nonce", lambda: next(nonces))
    faces = faces_of(LEFT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    first = encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, MODEL, EncryptSettings(steps=4)).picture
    other = scene()
    inside = owned(first)
    other[inside] = np.random.default_rng(1).integers(0, 256, (int(inside.sum()), 3))
    second = encrypt_faces(KeyedPicture(other), faces, mask, KEY, MODEL, EncryptSettings(steps=4, verify=False)).picture
    solid = np.zeros_like(inside)
    (claim,) = first.claims
    solid[claim.rows, claim.columns] = claim.weights == 1.0
    assert np.array_equal(first.pixels[solid], second.pixels[solid])
    assert first.headers[0].to_bytes() == second.headers[0].to_bytes()


def test_nonces_and_covers_are_new_every_time():
    torch.manual_seed(0)
    first = encrypt()
    torch.manual_seed(0)
    second = encrypt()
    assert first.picture.headers[0].nonce != second.picture.headers[0].nonce
    assert not np.array_equal(first.picture.pixels, second.picture.pixels)
    assert first.picture.container() != second.picture.container()


def test_a_changed_pixel_is_noticed():
    for mode, noticed in ((EXACT, True), (LATENT, True), (SIGNFLIP, False)):
        picture = reloaded(encrypt(mode=mode, verify=False).picture)
        changed = picture.pixels.copy()
        changed[0, 0, 0] ^= 1
        broken = KeyedPicture(changed, picture.faces)
        if noticed:
            with pytest.raises(TamperedError):
                decrypt_faces(broken, KEY, MODEL)
        else:
            assert decrypt_faces(broken, KEY, MODEL).opened == (0,)


def test_a_face_that_is_not_bound_to_its_pixels_is_named():
    bound, loose = encrypt(LEFT), encrypt(LEFT, bind_pixels=False)
    assert decrypt_faces(reloaded(bound.picture), KEY, MODEL).unbound == ()
    opened = decrypt_faces(reloaded(loose.picture), KEY, MODEL)
    assert opened.unbound == (0,)
    assert "goes unnoticed: 0" in opened.describe(1)


def test_pixels_may_change_when_they_are_not_bound():
    picture = reloaded(encrypt(bind_pixels=False).picture)
    changed = (picture.pixels // 2 * 2).astype(np.uint8)
    assert decrypt_faces(KeyedPicture(changed, picture.faces), KEY, MODEL).opened == (0,)


def test_a_payload_moved_to_another_picture_is_noticed():
    mine, other = encrypt(mode=EXACT).picture, encrypt(mode=EXACT).picture
    with pytest.raises(TamperedError):
        decrypt_faces(KeyedPicture.from_container(other.pixels, mine.container()), KEY)
    with pytest.raises(FormatError):
        KeyedPicture.from_container(other.pixels[:-1], mine.container())


def test_every_bit_of_the_sealed_payload_counts():
    picture = reloaded(encrypt().picture)
    (record,) = picture.faces
    places = np.random.default_rng(0).integers(0, 8 * len(record.blob), 200)
    for place in places:
        blob = bytearray(record.blob)
        blob[place // 8] ^= 1 << (place % 8)
        with pytest.raises((WrongKeyError, TamperedError)):
            decrypt_faces(replace_blob(picture, bytes(blob)), KEY, MODEL)


def replace_blob(picture: KeyedPicture, blob: bytes) -> KeyedPicture:
    (record,) = picture.faces
    return KeyedPicture(picture.pixels, (KeyedFaceRecord(record.header, blob),))


def test_every_field_of_the_header_counts():
    picture = reloaded(encrypt().picture)
    (record,) = picture.faces
    cells = record.header.cells.copy()
    cells[0, 0] = ~cells[0, 0]
    changes = {
        "nonce": bytes(16), "cells": cells, "steps": 9, "model": "0" * 32, "iterations": 1, "mode": EXACT,
        "crop_to_image": (*record.header.crop_to_image[:5], record.header.crop_to_image[5] + 1e-9),
    }  # fmt: skip
    for name, value in changes.items():
        header = replace(record.header, **{name: value})
        with pytest.raises(WrongKeyError):
            decrypt_faces(KeyedPicture(picture.pixels, (KeyedFaceRecord(header, record.blob),)), KEY, MODEL)


def test_another_model_is_refused_before_it_runs():
    for mode in (LATENT, IMAGE):
        picture = reloaded(encrypt(mode=mode, verify=False).picture)
        other = MixtureKeyedModel()
        other.vae_fingerprint = other.model_fingerprint = lambda: "d" * 32
        with pytest.raises(ModelMismatchError):
            decrypt_faces(picture, KEY, other)
        assert other.calls == 0
        with pytest.raises(InputError, match="a model with its VAE"):
            decrypt_faces(picture, KEY)


def test_a_decoy_shows_another_face_to_a_wrong_key():
    result = encrypt(mode=IMAGE, decoy=True, steps=40, iterations=20)
    picture = reloaded(result.picture)
    (record,) = picture.faces
    assert len(record.blob) == 2  # no commitment, no tag
    inside = owned(picture)
    right = compute_psnr(scene(), decrypt_faces(picture, KEY, MODEL).pixels, inside)
    wrong = compute_psnr(scene(), decrypt_faces(picture, OTHER, MODEL).pixels, inside)
    assert right > wrong + 6
    with pytest.raises(InputError, match="decoy"):
        EncryptSettings(mode=LATENT, decoy=True)


def test_a_cover_from_elsewhere_is_used_and_one_that_hides_nothing_is_refused():
    faces = faces_of(LEFT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    settings = EncryptSettings(mode=EXACT, crop_size=64)
    flat = np.full_like(scene(), 128)
    result = encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, None, settings, cover=flat)
    inside = owned(result.picture)
    assert (result.picture.pixels[inside] == 128).mean() > 0.5
    assert np.array_equal(decrypt_faces(reloaded(result.picture), KEY).pixels, scene())
    with pytest.raises(InputError, match="shows the original"):
        encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, None, settings, cover=scene())
    with pytest.raises(InputError, match="no cover"):
        encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, MODEL, replace(settings, mode=IMAGE), cover=flat)


def test_covers_that_fail_the_check_are_drawn_again():
    calls = []

    def check(original: np.ndarray, published: np.ndarray, faces: tuple[Face, ...]) -> list[str | None]:
        calls.append(len(faces))
        return [None if face is RIGHT or len(calls) > 2 else "too much alike" for face in faces]

    faces = faces_of(LEFT, RIGHT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    arguments = (KeyedPicture(scene()), faces, mask, KEY, MODEL)
    result = encrypt_faces(*arguments, EncryptSettings(steps=3), check=check)
    assert calls == [2, 1, 1]
    assert [report.attempts for report in result.reports] == [3, 1]
    calls.clear()
    with pytest.raises(NumericalError, match=r"face 0, got none in 2 attempts \(too much alike\)"):
        encrypt_faces(*arguments, EncryptSettings(steps=3, attempts=2), check=check)


def test_faces_beside_one_in_mode_image_must_come_together():
    first = encrypt(LEFT, mode=IMAGE, verify=False).picture
    with pytest.raises(InputError, match="Encrypt both at once"):
        encrypt(synthetic_face(95, 66, 70), onto=first)
    assert len(encrypt(RIGHT, onto=first).picture.faces) == 2


def test_a_picture_from_a_file_gets_no_further_faces():
    with pytest.raises(InputError, match="from a file"):
        encrypt(RIGHT, onto=reloaded(encrypt(LEFT).picture))


def test_bad_input_is_said():
    with pytest.raises(NoFaceError):
        encrypt_faces(KeyedPicture(scene()), faces_of(), torch.zeros(1, 1, HEIGHT, WIDTH), KEY, MODEL, EncryptSettings())
    with pytest.raises(NoFaceError, match="Widen"):
        encrypt_faces(KeyedPicture(scene()), faces_of(LEFT), torch.zeros(1, 1, HEIGHT, WIDTH), KEY, MODEL, EncryptSettings())
    with pytest.raises(InputError, match="this one picture"):
        encrypt_faces(
            KeyedPicture(scene()[:-1]), faces_of(LEFT), torch.ones(1, 1, HEIGHT, WIDTH), KEY, MODEL, EncryptSettings()
        )
    with pytest.raises(InputError, match="numbers of faces"):
        decrypt_faces(encrypt().picture, KEY, MODEL, which=[1])
    with pytest.raises(InputError, match="uint8"):
        KeyedPicture(scene() / 255.0)


def test_nothing_secret_shows():
    result = encrypt()
    (face,) = result.picture.faces
    shown = repr(result) + repr(result.picture) + repr(face) + str(face.key)
    for secret in (RAW_KEY, face.payload, face.key.reveal()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


@pytest.mark.parametrize("mode", [EXACT, LATENT, IMAGE, SIGNFLIP])
def test_every_key_but_one_is_refused(mode: RecoveryMode):
    """All 256 single-bit changes of the key, and 1,000 random keys."""
    (record,) = reloaded(encrypt(mode=mode, verify=False).picture).faces
    stored = record.header.to_bytes()
    flipped = [(int.from_bytes(RAW_KEY, "big") ^ (1 << bit)).to_bytes(32, "big") for bit in range(256)]
    for raw in [*flipped, *(secrets.token_bytes(32) for _ in range(1000))]:
        key = PrivacyKey.from_bytes(raw).face_key(None, record.header.nonce, stored)
        with pytest.raises(WrongKeyError):
            unseal(key, stored, record.blob, b"")
