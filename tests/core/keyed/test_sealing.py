"""Sealed payloads: only the right key, header and bytes open one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprivacy_core.errors import FormatError, InputError, TamperedError, WrongKeyError
from faceprivacy_core.keyed import sealing
from faceprivacy_core.keyed.derivation import FaceKey, derive_face_key
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.sealing import OVERHEAD_BYTES, seal, seal_unmarked, unseal, unseal_unmarked

ROOT = bytes(range(32))
NONCE = b"\x01" * 16
HEADER = b'{"version":1}'
AAD = b"hash of the picture"
KEY = derive_face_key(ROOT, NONCE, HEADER)
PLAINTEXT = random.Random(1).randbytes(300)


@given(plaintext=st.binary(max_size=500), header=st.binary(max_size=50), aad=st.binary(max_size=50))
@settings(deadline=None, max_examples=50)
def test_what_is_sealed_opens_with_key_header_and_data(plaintext: bytes, header: bytes, aad: bytes):
    blob = seal(KEY, header, plaintext, aad)
    assert len(blob) == len(plaintext) + OVERHEAD_BYTES
    assert unseal(KEY, header, blob, aad) == plaintext


def test_a_frozen_blob_still_opens():
    blob = bytes.fromhex(FROZEN_BLOB)
    assert unseal(FaceKey(ROOT), b"header", blob, b"aad") == b"hello face"


def test_nonces_are_distinct():
    nonces = {seal(KEY, HEADER, b"", AAD)[32:44] for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_every_changed_bit_of_a_raw_key_is_refused():
    blob = seal(KEY, HEADER, PLAINTEXT, AAD)
    for bit in range(256):
        changed = bytearray(ROOT)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WrongKeyError):
            unseal(PrivacyKey.from_bytes(bytes(changed)).face_key(None, NONCE, HEADER), HEADER, blob, AAD)
    assert unseal(PrivacyKey.from_bytes(ROOT).face_key(None, NONCE, HEADER), HEADER, blob, AAD) == PLAINTEXT


def test_a_thousand_other_keys_are_refused():
    blob, numbers = seal(KEY, HEADER, PLAINTEXT, AAD), random.Random(2)
    for _ in range(1000):
        with pytest.raises(WrongKeyError):
            unseal(derive_face_key(numbers.randbytes(32), NONCE, HEADER), HEADER, blob, AAD)


def test_a_face_key_opens_its_own_face_only():
    released = PrivacyKey.from_face_key(KEY.reveal())
    blob = seal(KEY, HEADER, PLAINTEXT, AAD)
    assert unseal(released.face_key(None, NONCE, HEADER), HEADER, blob, AAD) == PLAINTEXT
    for other_nonce, other_header in ((b"\x02" * 16, HEADER), (NONCE, HEADER + b" ")):
        other = seal(derive_face_key(ROOT, other_nonce, other_header), other_header, PLAINTEXT, AAD)
        with pytest.raises(WrongKeyError):
            unseal(released.face_key(None, other_nonce, other_header), other_header, other, AAD)


@pytest.mark.parametrize("part", ["commitment", "nonce", "tag", "ciphertext"])
def test_every_changed_bit_of_a_blob_is_noticed(part: str):
    blob = seal(KEY, HEADER, PLAINTEXT, AAD)
    body = range(44 * 8, (len(blob) - 16) * 8)
    bits, error = {
        "commitment": (range(32 * 8), WrongKeyError),
        "nonce": (range(32 * 8, 44 * 8), TamperedError),
        "tag": (range((len(blob) - 16) * 8, len(blob) * 8), TamperedError),
        "ciphertext": (random.Random(3).sample(body, 200), TamperedError),
    }[part]
    for bit in bits:
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(error) as caught:
            unseal(KEY, HEADER, bytes(changed), AAD)
        assert str(caught.value) == error.text


@pytest.mark.parametrize("end", ["front", "back"])
def test_shortened_and_lengthened_blobs_are_refused(end: str):
    blob = seal(KEY, HEADER, PLAINTEXT, AAD)
    for cut in (1, 16, len(PLAINTEXT)):
        with pytest.raises((WrongKeyError, TamperedError)):
            unseal(KEY, HEADER, blob[cut:] if end == "front" else blob[:-cut], AAD)
    with pytest.raises((WrongKeyError, TamperedError)):
        unseal(KEY, HEADER, b"\0" + blob if end == "front" else blob + b"\0", AAD)


@pytest.mark.parametrize("length", [0, 1, 59])
def test_blobs_too_short_for_anything_are_damaged(length: int):
    with pytest.raises(FormatError):
        unseal(KEY, HEADER, bytes(length), AAD)
    with pytest.raises(WrongKeyError):
        unseal(KEY, HEADER, bytes(60), AAD)


def test_too_much_is_refused_in_both_directions(monkeypatch: pytest.MonkeyPatch):
    assert sealing.MAX_BLOB_BYTES == 64 * 2**20
    monkeypatch.setattr(sealing, "MAX_BLOB_BYTES", 1000)
    assert len(seal(KEY, HEADER, bytes(940), AAD)) == 1000
    for excess in (lambda: seal(KEY, HEADER, bytes(941), AAD), lambda: seal_unmarked(KEY, HEADER, bytes(1001))):
        with pytest.raises(InputError, match="at most"):
            excess()
    for excess in (lambda: unseal(KEY, HEADER, bytes(1001), AAD), lambda: unseal_unmarked(KEY, HEADER, bytes(1001))):
        with pytest.raises(FormatError):
            excess()


def test_the_payload_is_bound_to_the_associated_data():
    blob = seal(KEY, HEADER, PLAINTEXT, AAD)
    for other in (b"", AAD + b"x", AAD[:-1], b"another picture"):
        with pytest.raises(TamperedError):
            unseal(KEY, HEADER, blob, other)


def test_no_byte_can_move_from_header_to_data(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sealing, "_commitment", lambda *_: bytes(32))  # so that the tag alone decides
    blob = seal(KEY, b"ab", PLAINTEXT, b"c")
    with pytest.raises(TamperedError):
        unseal(KEY, b"a", blob, b"bc")


def test_the_commitment_is_checked_in_constant_time_and_first(monkeypatch: pytest.MonkeyPatch):
    compared = []
    compare = sealing.hmac.compare_digest
    monkeypatch.setattr(sealing.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    blob = seal(KEY, HEADER, PLAINTEXT, AAD)
    with pytest.raises(WrongKeyError):
        unseal(FaceKey(ROOT), HEADER, blob[:-1] + bytes([blob[-1] ^ 1]), AAD)
    assert compared[0][1] == blob[:32]


@given(plaintext=st.binary(max_size=500))
@settings(deadline=None, max_examples=30)
def test_unmarked_payloads_keep_their_length_and_open_with_the_key(plaintext: bytes):
    blob = seal_unmarked(KEY, HEADER, plaintext)
    assert len(blob) == len(plaintext)
    assert unseal_unmarked(KEY, HEADER, blob) == plaintext


def test_a_wrong_key_on_an_unmarked_payload_gives_other_bytes_and_no_error():
    plaintext = bytes(10_000)
    blob = seal_unmarked(KEY, HEADER, plaintext)
    for key, header in ((FaceKey(ROOT), HEADER), (KEY, HEADER + b" ")):
        opened = unseal_unmarked(key, header, blob)
        assert len(opened) == len(plaintext)
        ones = sum(byte.bit_count() for byte in opened)
        assert abs(ones - 40_000) < 4 * 142, "within four standard deviations of half the bits"


def test_unmarked_payloads_keep_their_frozen_value():
    assert seal_unmarked(FaceKey(ROOT), b"h", b"hello face").hex() == "02578f1faaa242c73732"


FROZEN_BLOB = (
    "64fed41f8d6eb6e7878ef5c985a893435caadae51ad512be4047dc4099d327a1010101010101010101010101289c591a1a4b"
    "ddf051c02944d6a21885c3ec89f3835926534f80"
)
