"""Keys as handles: what they derive, and that they show nothing."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
import unicodedata
from collections.abc import Callable

import pytest

from faceprivacy_core.errors import InputError, WrongKeyError
from faceprivacy_core.keyed import keys
from faceprivacy_core.keyed.derivation import KdfParameters, derive_face_key
from faceprivacy_core.keyed.keys import KeyKind, PrivacyKey
from faceprivacy_core.keyed.sealing import seal, unseal
from tests.support.known_keys import FAST, HEADER, NONCE, PASSPHRASE, RAW, all_kinds, assert_silent, face_bytes


def test_handles_show_name_and_public_id_only():
    secrets = [RAW.hex(), repr(RAW)[2:-1], PASSPHRASE, face_bytes(PASSPHRASE).hex()]
    for key in all_kinds("studio"):
        key.face_key(FAST if key.kind is KeyKind.PASSPHRASE else None, NONCE, HEADER)
        shown = [repr(key), str(key), f"{key}", f"{key:>60}", repr([key]), traceback.format_exception_only(ValueError(key))[0]]
        shown += [repr(getattr(key, name)) for name in dir(key)]
        for text in shown:
            assert not [secret for secret in secrets if secret in text]
        assert "studio" in repr(key)
        assert key.public_id in repr(key)


def test_handles_are_not_stored_copied_or_taken_apart():
    for key in all_kinds():
        for unwanted in (
            pickle.dumps, json.dumps, vars, list, bytes, len, lambda key: key.__getstate__(), lambda key: key.__reduce__(),
            lambda key: key.__reduce_ex__(2),
        ):  # fmt: skip
            with pytest.raises(TypeError):
                unwanted(key)
        assert copy.copy(key) is key
        assert copy.deepcopy({"key": key})["key"] is key
        with pytest.raises(AttributeError):
            key.name = "other"
    first, second = PrivacyKey.from_bytes(RAW), PrivacyKey.from_bytes(RAW)
    assert first != second
    assert len({first, second, first}) == 2


def test_public_ids_tell_keys_apart_and_say_nothing_about_a_passphrase():
    raw, passphrase, face = all_kinds()
    assert raw.public_id == PrivacyKey.from_bytes(RAW).public_id != PrivacyKey.from_bytes(RAW[::-1]).public_id
    assert len(raw.public_id) == 8
    assert set(raw.public_id) <= set("0123456789abcdef")
    assert passphrase.public_id == PrivacyKey.from_passphrase("another").public_id == "passphrase"
    assert face.public_id == f"face-{raw.public_id}"
    assert PrivacyKey.from_bytes(bytes(range(32))).public_id == "14abe1e2", "frozen: ids are written down by people"


def test_a_raw_key_derives_as_documented_and_takes_no_scrypt_parameters():
    key = PrivacyKey.from_bytes(RAW)
    assert key.new_kdf() is None
    assert key.face_key(None, NONCE, HEADER).reveal() == derive_face_key(RAW, NONCE, HEADER).reveal()
    with pytest.raises(WrongKeyError):
        key.face_key(FAST, NONCE, HEADER)


def test_a_passphrase_needs_scrypt_parameters():
    key = PrivacyKey.from_passphrase(PASSPHRASE)
    first, second = key.new_kdf(), key.new_kdf()
    assert first is not None
    assert second is not None
    assert first.salt != second.salt
    assert first.n == 2**17
    with pytest.raises(WrongKeyError):
        key.face_key(None, NONCE, HEADER)


def test_a_released_face_key_is_the_same_for_every_face():
    key = PrivacyKey.from_face_key(RAW)
    assert key.new_kdf() is None
    for kdf in (None, FAST):
        for nonce in (NONCE, bytes(16)):
            assert key.face_key(kdf, nonce, HEADER).reveal() == RAW


def test_a_batch_costs_one_scrypt(monkeypatch: pytest.MonkeyPatch):
    calls: list[KdfParameters] = []

    def derive_root(_: bytes, kdf: KdfParameters) -> bytes:
        calls.append(kdf)
        return RAW

    monkeypatch.setattr(keys, "derive_root", derive_root)
    key = PrivacyKey.from_passphrase(PASSPHRASE)
    faces = [key.face_key(KdfParameters(bytes(16)), bytes([index]) * 16, HEADER).reveal() for index in range(20)]
    assert len(set(faces)) == 20
    assert len(calls) == 1
    key.face_key(KdfParameters(b"\x01" * 16), NONCE, HEADER)
    assert len(calls) == 2


def test_both_spellings_of_an_accent_are_one_passphrase():
    text = "Ångström naïve"
    spellings = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert len(spellings) == 2
    assert len({face_bytes(spelling) for spelling in spellings}) == 1
    assert face_bytes("ﬁle") == face_bytes("file")


def test_a_passphrase_must_match_in_every_letter_capital_and_space():
    key = PrivacyKey.from_passphrase(PASSPHRASE).face_key(FAST, NONCE, HEADER)
    blob = seal(key, HEADER, b"face", b"")
    others = ["hunter3 SECRET", "Hunter2 SECRET", "hunter2 SECRET ", " hunter2 SECRET", "hunter2  SECRET", "hunter2SECRET"]
    for other in others:
        with pytest.raises(WrongKeyError):
            unseal(PrivacyKey.from_passphrase(other).face_key(FAST, NONCE, HEADER), HEADER, blob, b"")
    assert unseal(PrivacyKey.from_passphrase(PASSPHRASE).face_key(FAST, NONCE, HEADER), HEADER, blob, b"") == b"face"


@pytest.mark.parametrize(
    "make",
    [
        lambda: PrivacyKey.from_passphrase(""),
        lambda: PrivacyKey.from_passphrase("abc\ud800"),
        lambda: PrivacyKey.from_passphrase(b"bytes"),
        lambda: PrivacyKey.from_bytes(RAW[:-1]),
        lambda: PrivacyKey.from_bytes(RAW.hex()),
        lambda: PrivacyKey.from_face_key(RAW + b"x"),
        lambda: PrivacyKey.from_bytes(RAW, "no/name"),
        lambda: PrivacyKey.from_bytes(RAW).face_key(None, b"short", HEADER),
    ],
)
def test_unfit_keys_are_refused(make: Callable[[], object]):
    with pytest.raises(InputError, match="Expected") as caught:
        make()
    assert_silent(caught.value, ["abc", "bytes'", RAW.hex(), repr(RAW[:-1])[2:-1], "no/name"], in_traceback=False)


WEAK = [
    "x", "1234567", "aaaaaaaaaaaaaaaa", "abababababab", RAW.hex()[:-1], RAW.hex() + "0", RAW.hex() + "\n", " " + RAW.hex(),
    RAW.hex()[:-1] + "g", RAW.hex(), f"faceprivacy-key-1 {RAW.hex()}", ":".join(RAW.hex()[i : i + 2] for i in range(0, 64, 2)),
]  # fmt: skip


@pytest.mark.parametrize("text", WEAK)
def test_nothing_is_sealed_with_a_weak_passphrase_or_a_mistyped_key_but_both_still_open(text: str):
    key = PrivacyKey.from_passphrase(text)
    with pytest.raises(InputError, match="Expected a passphrase") as caught:
        key.check_can_seal()
    assert_silent(caught.value, [text.strip()] if len(text) > 1 else [], in_traceback=False)
    assert key.face_key(FAST, NONCE, HEADER).reveal() == face_bytes(text)


@pytest.mark.parametrize("text", ["correct horse", PASSPHRASE, "päßwört-1", "0123 4567 89ab cdef", "deadbeef" * 4 + "!"])
def test_ordinary_passphrases_seal(text: str):
    PrivacyKey.from_passphrase(text).check_can_seal()
    PrivacyKey.from_bytes(RAW).check_can_seal()
    with pytest.raises(InputError, match="only opens"):
        PrivacyKey.from_face_key(RAW).check_can_seal()
