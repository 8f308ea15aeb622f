"""What a hostile file can cost: bounded before a key is checked, and afterwards, too."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from faceprivacy_core.errors import FormatError, InputError, TamperedError, WrongKeyError
from faceprivacy_core.keyed import keys, regions
from faceprivacy_core.keyed.container import KeyedFaceRecord, pack, unpack
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.derivation import KdfParameters, new_nonce
from faceprivacy_core.keyed.header import Bind, Cover, FaceHeader, RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.regions import Region, claim_pixels
from faceprivacy_core.keyed.sealing import seal
from tests.core.keyed.scenes import KEY, OTHER

SIDE = 2000
FAST = KdfParameters(bytes(16), 2**14)


def hostile(side: int = SIDE, **changes: object) -> KeyedFaceRecord:
    """A face over the whole of a picture, sealed by nobody."""
    values = {
        "mode": RecoveryMode.IMAGE, "cover": Cover.KEYED, "nonce": new_nonce(), "kdf": None, "width": side, "height": side,
        "crop_size": 4096, "crop_to_image": (side / 4096, 0.0, 0.0, 0.0, side / 4096, 0.0),
        "cells": np.indices((512, 512)).sum(axis=0) % 2 == 0, "model": "", "condition": "", "steps": 1000, "iterations": 100,
        "bind": Bind.SURROUNDINGS, "decoy": False, "signer": bytes(32),
    }  # fmt: skip
    return KeyedFaceRecord(FaceHeader(**values | changes), bytes(200))


def test_a_wrong_key_costs_neither_memory_nor_time_however_many_faces_and_pixels():
    container = pack([hostile() for _ in range(64)])
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture = KeyedPicture.from_container(pixels, container)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(WrongKeyError):
        decrypt_faces(picture, KEY)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20
    assert seconds < 2.0, "typically 50 ms"


def test_old_headers_of_many_faces_are_bounded_even_for_the_right_key():
    """Version 1 has no signature over the set: what is forged beside a sound face is met after the key fits."""
    sound = hostile(version=1, signer=b"", crop_size=64, cells=np.ones((8, 8), bool), crop_to_image=(1.0, 0, 5.0, 0, 1.0, 5.0))
    stored = sound.header.to_bytes()
    blob = seal(KEY.face_key(None, sound.header.nonce, stored), stored, bytes(16), bytes(32))
    crowd = [hostile(version=1, signer=b"") for _ in range(63)]
    picture = KeyedPicture(np.zeros((SIDE, SIDE, 3), np.uint8), (KeyedFaceRecord(sound.header, blob), *crowd))
    with pytest.raises(FormatError):
        decrypt_faces(picture, KEY)


def test_large_faces_take_memory_by_the_band():
    here = Region(256, np.array([[8.0, 0, 0], [0, 8.0, 0]]), np.ones((16, 16), bool))
    tracemalloc.start()
    (claim,) = claim_pixels([here], 2000, 2000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert claim.weights.size > 0.9 * 2000 * 2000
    assert peak < 24 * 2000 * 2000, "bytes; 120 a pixel without bands"


def test_bands_change_no_weight(monkeypatch: pytest.MonkeyPatch):
    turn = np.array([[1.3, 0.4, 3.0], [-0.4, 1.3, 40.0]])
    here = Region(64, turn, np.random.default_rng(0).random((8, 8)) > 0.3)
    (whole,) = claim_pixels([here], 150, 150)
    for pixels in (1, 500, 2000):
        monkeypatch.setattr(regions, "BAND_PIXELS", pixels)
        (parts,) = claim_pixels([here], 150, 150)
        assert (parts.rows, parts.columns) == (whole.rows, whole.columns)
        assert np.array_equal(parts.weights, whole.weights)


def test_large_pictures_may_be_covered_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(regions, "MAX_TOUCHED", 1000)
    full = Region(64, np.array([[2.0, 0, 0], [0, 2.0, 0]]), np.ones((8, 8), bool))
    with pytest.raises(InputError, match="at most twice"):
        claim_pixels([full] * 3, 128, 128)


# Passphrases


def salted(number: int, version: int, **changes: int) -> KeyedFaceRecord:
    kdf = replace(FAST, salt=bytes([number] * 16), **changes)
    return hostile(version=version, signer=bytes(32) if version > 1 else b"", kdf=kdf)


def count_hashes(monkeypatch: pytest.MonkeyPatch) -> list[KdfParameters]:
    calls: list[KdfParameters] = []
    monkeypatch.setattr(keys, "derive_root", lambda _, kdf: calls.append(kdf) or bytes(32))
    return calls


@pytest.mark.parametrize(("version", "salts"), [(1, 8), (2, 1), (3, 1)])
def test_a_picture_asks_for_few_hashes_of_one_cost(version: int, salts: int, monkeypatch: pytest.MonkeyPatch):
    calls = count_hashes(monkeypatch)
    most = [salted(number % salts, version) for number in range(20)]
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    with pytest.raises(WrongKeyError):
        decrypt_faces(KeyedPicture.from_container(pixels, pack(most)), PrivacyKey.from_passphrase("correct horse"))
    assert len(calls) == salts
    for extra in (salted(salts, version), salted(0, version, n=2**15), salted(0, version, p=2)):
        with pytest.raises(InputError, match="salts for passphrases"):
            pack([*most, extra])
        spliced = bytearray(pack(most)) + pack([extra])[8:]
        spliced[7] += 1
        with pytest.raises(FormatError):
            unpack(bytes(spliced))
    assert len(calls) == salts


def test_a_raw_key_hashes_nothing(monkeypatch: pytest.MonkeyPatch):
    calls = count_hashes(monkeypatch)
    picture = KeyedPicture.from_container(np.zeros((SIDE, SIDE, 3), np.uint8), pack([salted(0, 2)]))
    for key in (KEY, OTHER):
        with pytest.raises((WrongKeyError, TamperedError)):
            decrypt_faces(picture, key)
    assert calls == []
