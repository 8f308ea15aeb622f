"""Sealed inversions: one key opens them, every changed byte is noticed, none is taken for a keyed face."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprivacy_core.diffusion.schedules import NoiseSchedule
from faceprivacy_core.embeddings.inversion import ModelIdentity, NoiseMap
from faceprivacy_core.errors import (
    FacePrivacyError,
    FormatError,
    InputError,
    InversionFormatError,
    InversionKeyError,
    InversionModelError,
    InversionPictureError,
    InversionStepsError,
    InversionTamperedError,
)
from faceprivacy_core.inversions.checks import check_levels, check_model, check_picture, picture_digest
from faceprivacy_core.inversions.contents import SEALED, UNPROTECTED, to_bytes
from faceprivacy_core.inversions.files import read_inversion_file, write_inversion_file
from faceprivacy_core.inversions.sealed import MAGIC, SealedHeader, is_sealed, seal_inversion, unseal_inversion
from faceprivacy_core.inversions.stored import stored_part
from faceprivacy_core.keyed.container import unpack
from faceprivacy_core.keyed.derivation import KdfParameters
from faceprivacy_core.keyed.header import FaceHeader
from faceprivacy_core.keyed.keys import PrivacyKey
from tests.support.inversions import SPOILS, small_inversion, spoil

KEY = PrivacyKey.from_bytes(bytes(range(32)))
OTHER = PrivacyKey.from_bytes(bytes(32))
CONTENTS = to_bytes(stored_part(small_inversion()), SEALED)
FILE = seal_inversion(CONTENTS, KEY)
HEADER_END = len(MAGIC) + 4 + int.from_bytes(FILE[len(MAGIC) : len(MAGIC) + 4], "big")
PASSPHRASE = "hunter2-SECRET correct horse"


def test_the_key_opens_it_and_no_other_does():
    assert unseal_inversion(FILE, KEY) == CONTENTS
    face = PrivacyKey.from_face_key(bytes(range(32)))
    for wrong in (OTHER, None, face, PrivacyKey.from_passphrase("x")):
        with pytest.raises(InversionKeyError, match="sealed with, got another one or none"):
            unseal_inversion(FILE, wrong)


def test_every_changed_bit_of_a_key_is_refused():
    for bit in range(0, 256, 7):
        raw = bytearray(range(32))
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InversionKeyError):
            unseal_inversion(FILE, PrivacyKey.from_bytes(bytes(raw)))


def test_a_passphrase_opens_it_and_stands_nowhere_in_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(KdfParameters, "new", classmethod(lambda cls: cls(bytes(16), n=2**14)))  # the cost only
    sealed = seal_inversion(CONTENTS, PrivacyKey.from_passphrase(PASSPHRASE))
    assert unseal_inversion(sealed, PrivacyKey.from_passphrase(PASSPHRASE)) == CONTENTS
    assert PASSPHRASE.encode() not in sealed
    for wrong in (PrivacyKey.from_passphrase(PASSPHRASE + " "), KEY):
        with pytest.raises(InversionKeyError) as caught:
            unseal_inversion(sealed, wrong)
        assert PASSPHRASE not in str(caught.value)


def test_nothing_of_the_contents_stands_in_the_file():
    for word in (b"noise", b"tokens", b"placement", b"v1-5-pruned", b"crop_size"):
        assert word in CONTENTS
        assert word not in FILE


def test_two_files_of_one_inversion_have_nothing_in_common():
    again = seal_inversion(CONTENTS, KEY)
    assert again[HEADER_END:][:32] != FILE[HEADER_END:][:32]
    assert again[HEADER_END + 44 :][:64] != FILE[HEADER_END + 44 :][:64]


@pytest.mark.parametrize(
    ("what", "place", "error"),
    [
        ("magic", 0, InversionFormatError),
        ("version", 4, InversionFormatError),
        ("length of the header", len(MAGIC) + 2, InversionFormatError),
        ("header", len(MAGIC) + 8, InversionFormatError),
        ("end of the header", HEADER_END - 1, InversionFormatError),
        ("commitment", HEADER_END, InversionKeyError),
        ("nonce of the cipher", HEADER_END + 32, InversionTamperedError),
        ("ciphertext", HEADER_END + 44, InversionTamperedError),
        ("middle of the ciphertext", len(FILE) // 2, InversionTamperedError),
        ("tag", len(FILE) - 1, InversionTamperedError),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_changed_byte_is_noticed(what: str, place: int, error: type[FacePrivacyError]):
    for bit in range(8):
        with pytest.raises(error):
            unseal_inversion(FILE[:place] + bytes([FILE[place] ^ 1 << bit]) + FILE[place + 1 :], KEY)


def test_a_changed_nonce_in_the_header_needs_another_key():
    place = FILE.index(b'"nonce":"') + 9
    changed = b"0" if FILE[place : place + 1] != b"0" else b"1"
    with pytest.raises(InversionKeyError):
        unseal_inversion(FILE[:place] + changed + FILE[place + 1 :], KEY)


@given(kind=st.sampled_from(SPOILS), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=500)
def test_a_spoiled_file_never_opens(kind: str, seed: int):
    spoiled = spoil(FILE, kind, random.Random(seed))
    if spoiled != FILE:
        with pytest.raises((InversionFormatError, InversionKeyError, InversionTamperedError)):
            unseal_inversion(spoiled, KEY)


# Domains


def test_header_of_an_inversion_is_none_of_a_face_and_the_other_way_round():
    header = FILE[len(MAGIC) + 4 : HEADER_END]
    assert SealedHeader.from_bytes(header).to_bytes() == header
    with pytest.raises(FormatError):
        FaceHeader.from_bytes(header)
    with pytest.raises(FormatError):
        unpack(FILE)
    for text in (
        header.replace(b"faceprivacy-inversion", b"faceprivacy-face"), header.replace(b'"version":1', b'"version":2'),
        header.replace(b":", b": ", 1), header[:-1] + b',"x":1}', b"{}", b"[]", b"{", header.replace(b"null", b"{}"),
        header.replace(b'"version":1', b'"version":' + b"1" * 5000), b"\xff" + header, b'{"a":' * 2000,
    ):  # fmt: skip
        with pytest.raises(InversionFormatError):
            SealedHeader.from_bytes(text)


def test_the_released_key_of_a_face_seals_nothing():
    with pytest.raises(InputError, match="released key of one face"):
        seal_inversion(CONTENTS, PrivacyKey.from_face_key(bytes(range(32))))


# Files


def test_files_come_back_sealed_and_unprotected(tmp_path: Path):
    given_ = small_inversion()
    write_inversion_file(tmp_path / "sealed.fpinv", given_, KEY, picture_digest="e" * 64)
    write_inversion_file(tmp_path / "open.fpinv", given_, None, unprotected=True)
    assert is_sealed((tmp_path / "sealed.fpinv").read_bytes())
    assert b'"protection":"none"' in (tmp_path / "open.fpinv").read_bytes()
    assert read_inversion_file(tmp_path / "sealed.fpinv", KEY).picture_digest == "e" * 64
    for key in (None, KEY, OTHER):
        assert len(read_inversion_file(tmp_path / "open.fpinv", key).crops) == 3
    with pytest.raises(InversionKeyError):
        read_inversion_file(tmp_path / "sealed.fpinv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open.fpinv", "sealed.fpinv"]


@pytest.mark.parametrize(("key", "unprotected", "came"), [(None, False, "neither"), (KEY, True, "both")])
def test_without_a_key_it_must_be_said(tmp_path: Path, key: PrivacyKey | None, unprotected: bool, came: str):
    with pytest.raises(InputError, match=f"got {came}"):
        write_inversion_file(tmp_path / "a.fpinv", small_inversion(), key, unprotected=unprotected)
    assert list(tmp_path.iterdir()) == []


def test_sealed_contents_taken_out_are_not_read_as_an_unprotected_file(tmp_path: Path):
    (tmp_path / "a.fpinv").write_bytes(CONTENTS)
    with pytest.raises(InversionFormatError):
        read_inversion_file(tmp_path / "a.fpinv")
    (tmp_path / "a.fpinv").write_bytes(seal_inversion(to_bytes(stored_part(small_inversion()), UNPROTECTED), KEY))
    with pytest.raises(InversionFormatError):
        read_inversion_file(tmp_path / "a.fpinv", KEY)


def test_missing_and_huge_files_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"Expected a saved inversion at .*gone\.fpinv"):
        read_inversion_file(tmp_path / "gone.fpinv")
    with (tmp_path / "huge.fpinv").open("wb") as stream:
        stream.truncate(2**33)  # takes no space
    with pytest.raises(InversionFormatError):
        read_inversion_file(tmp_path / "huge.fpinv")


# Fits


def test_another_part_of_the_model_is_named():
    stored = ModelIdentity("a model", "a" * 32, "b" * 32, "c" * 32)
    check_model(stored, ModelIdentity("the same under another name", "a" * 32, "b" * 32, "c" * 32))
    for other, part in (
        (ModelIdentity("", "0" * 32, "b" * 32, "c" * 32), r"the denoiser"),
        (ModelIdentity("", "", "b" * 32, "c" * 32), r"the denoiser"),
        (ModelIdentity("", "a" * 32, "0" * 32, "c" * 32), r"autoencoder \(VAE\)"),
        (ModelIdentity("", "a" * 32, "b" * 32), r"text encoder"),
    ):
        with pytest.raises(InversionModelError, match=part):
            check_model(stored, other)
    check_model(ModelIdentity("", "a" * 32, "b" * 32), stored)  # needs no text encoder
    with pytest.raises(InversionModelError):
        check_model(ModelIdentity(""), ModelIdentity(""))  # nothing was taken, so nothing is known


def test_other_steps_and_levels_a_model_does_not_have_are_refused():
    noise, schedule = small_inversion(steps=4).noise, NoiseSchedule.scaled_linear()
    check_levels(noise, schedule)
    check_levels(noise, schedule, 4)
    with pytest.raises(InversionStepsError):
        check_levels(noise, schedule, 5)
    for sigmas in ((99.0, 1.0, 0.0), (2.0, 1e-4, 0.0)):
        with pytest.raises(InversionStepsError):
            check_levels(NoiseMap(noise.latent, sigmas, 0.0), schedule)


def test_the_digest_sees_every_value_and_the_size():
    import numpy as np

    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    other = picture.copy()
    other[3, 4, 2] ^= 1
    check_picture("", other)
    check_picture(picture_digest(picture), picture.copy())
    for changed in (other, picture.reshape(5, 4, 3)):
        with pytest.raises(InversionPictureError):
            check_picture(picture_digest(picture), changed)
