"""The faces of a picture vouch for each other, and only the owner of a key can write for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from faceprivacy_core.errors import InputError, KeyedError, TamperedError, WrongKeyError
from faceprivacy_core.keyed import opening
from faceprivacy_core.keyed import picture as picture_module
from faceprivacy_core.keyed.container import KeyedFaceRecord
from faceprivacy_core.keyed.decrypt import decrypt_faces, face_key_of
from faceprivacy_core.keyed.derivation import derive_signing_key, new_nonce
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.opening import open_faces
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.sealing import seal
from faceprivacy_core.keyed.signing import SIGNATURE_BYTES, add_signature, set_digest, split_signature
from tests.core.keyed.scenes import EXACT, IMAGE, KEY, LATENT, LEFT, MODEL, OTHER, RIGHT, SIGNFLIP, encrypt, reloaded, scene
from tests.support.keyed import raw_key

Records = tuple[KeyedFaceRecord, ...]


def forged(record: KeyedFaceRecord) -> KeyedFaceRecord:
    """Return a record like another one, sealed by somebody without its key."""
    stranger, nonce = raw_key(9), new_nonce()
    signer = stranger.signing_key(None, nonce)
    header = replace(record.header, nonce=nonce, signer=signer.public)
    stored = header.to_bytes()
    blob = seal(stranger.face_key(None, nonce, stored), stored, b"forged", b"")
    return KeyedFaceRecord(header, add_signature(signer, stored, blob, set_digest([stored])))


CHANGES: dict[str, Callable[[Records], Sequence[KeyedFaceRecord]]] = {
    "first dropped": lambda faces: faces[1:],
    "last dropped": lambda faces: faces[:-1],
    "turned round": lambda faces: faces[::-1],
    "doubled": lambda faces: (faces[0], *faces),
    "forged in front": lambda faces: (forged(faces[0]), *faces),
    "forged behind": lambda faces: (*faces, forged(faces[0])),
    "one replaced": lambda faces: (faces[0], forged(faces[1])),
    "header changed": lambda faces: (faces[0], KeyedFaceRecord(replace(faces[1].header, steps=3), faces[1].blob)),
}


@pytest.fixture(scope="module", params=[EXACT, LATENT, IMAGE, SIGNFLIP], ids=lambda mode: mode.value)
def keyed(request: pytest.FixtureRequest) -> KeyedPicture:
    """Two faces under one key."""
    return reloaded(encrypt(LEFT, RIGHT, mode=request.param, verify=False).picture)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_face_can_be_dropped_moved_or_added(keyed: KeyedPicture, change: Callable[[Records], Sequence[KeyedFaceRecord]]):
    changed = KeyedPicture(keyed.pixels, tuple(change(keyed.faces)))
    calls = MODEL.calls
    with pytest.raises(TamperedError):
        decrypt_faces(changed, KEY, MODEL)
    assert MODEL.calls == calls


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_who_may_see_one_face_notices_it_too(keyed: KeyedPicture, change: Callable[[Records], Sequence[KeyedFaceRecord]]):
    released = release(keyed, 0)
    assert set(open_faces(keyed, released)) == {0}
    with pytest.raises((TamperedError, WrongKeyError)):
        decrypt_faces(KeyedPicture(keyed.pixels, tuple(change(keyed.faces))), released, MODEL)


def test_faces_of_two_keys_vouch_for_each_other():
    first = encrypt(LEFT, mode=EXACT).picture
    both = reloaded(encrypt(RIGHT, key=OTHER, onto=first, mode=EXACT).picture)
    for number, key in enumerate((KEY, OTHER)):
        assert decrypt_faces(both, key).opened == (number,)
        alone = KeyedPicture(both.pixels, (both.faces[number],))
        with pytest.raises(TamperedError):
            decrypt_faces(alone, key)


def test_what_cannot_be_authenticated_is_said():
    signed = decrypt_faces(reloaded(encrypt(mode=EXACT).picture), KEY)
    assert signed.unsigned == ()
    decoy = decrypt_faces(reloaded(encrypt(mode=IMAGE, decoy=True, verify=False).picture), KEY, MODEL)
    assert decoy.unsigned == (0,)
    assert "may have been dropped, added or replaced unnoticed: 0" in decoy.describe(1)


def test_a_sealed_set_does_not_grow():
    sealed = reloaded(encrypt(LEFT, bind_pixels=False).picture)
    with pytest.raises(InputError, match="from a file"):
        encrypt(RIGHT, onto=sealed)
    fresh = encrypt(RIGHT).picture
    with pytest.raises(InputError, match="from a file"):
        KeyedPicture(sealed.pixels, (*sealed.faces, *fresh.faces)).records()


# A released key reads and does not write


def release(picture: KeyedPicture, number: int) -> PrivacyKey:

    face_key = face_key_of(picture, number, KEY)
    return PrivacyKey.from_face_key(
        face_key.reveal(), header_digest=hashlib.sha256(picture.headers[number].to_bytes()).digest()
    )


def resealed(picture: KeyedPicture, number: int, mode: str) -> KeyedPicture:
    """Seal another original for a face, as the holder of its released key could."""
    record = picture.faces[number]
    header, stored = record.header, record.header.to_bytes()
    face_key = face_key_of(picture, number, KEY)
    signer = derive_signing_key(bytes(32), header.nonce)
    if mode == "own signer":
        header = replace(header, signer=signer.public)
        stored = header.to_bytes()
    headers = [stored if index == number else other.to_bytes() for index, other in enumerate(picture.headers)]
    digest = set_digest(headers)
    payload = open_faces(picture, KEY)[number].payload
    blob = seal(face_key, stored, bytes(len(payload)), digest + picture.binding(header.bind))
    if mode == "old signature":
        blob += split_signature(record.blob)[1]
    elif mode == "no signature":
        blob += bytes(SIGNATURE_BYTES)
    else:
        blob = add_signature(signer, stored, blob, digest)
    faces = list(picture.faces)
    faces[number] = KeyedFaceRecord(header, blob)
    return KeyedPicture(picture.pixels, tuple(faces))


@pytest.mark.parametrize("mode", ["old signature", "no signature", "another signature", "own signer"])
def test_a_released_key_cannot_seal(keyed: KeyedPicture, mode: str):
    changed = resealed(keyed, 1, mode)
    assert not np.array_equal(changed.faces[1].blob, keyed.faces[1].blob)
    for key in (KEY, release(keyed, 1)):
        with pytest.raises((TamperedError, WrongKeyError)):
            decrypt_faces(changed, key, MODEL, which=[1])
    with pytest.raises(KeyedError):
        decrypt_faces(changed, KEY, MODEL)


def test_a_released_key_takes_no_other_header(keyed: KeyedPicture):
    released = release(keyed, 0)
    with pytest.raises(WrongKeyError):
        decrypt_faces(keyed, released, MODEL, which=[1])
    with pytest.raises(InputError, match="only opens"):
        released.signing_key(None, bytes(16))


def test_signatures_and_faces_are_not_exchanged():
    faces = reloaded(encrypt(LEFT, RIGHT, mode=EXACT).picture)
    blobs = [split_signature(record.blob) for record in faces.faces]
    crossed = tuple(
        KeyedFaceRecord(record.header, blobs[number][0] + blobs[1 - number][1]) for number, record in enumerate(faces.faces)
    )
    with pytest.raises(TamperedError):
        decrypt_faces(KeyedPicture(faces.pixels, crossed), KEY)


# Keys are tried before pixels are looked at


@pytest.mark.parametrize("mode", [EXACT, IMAGE], ids=lambda mode: mode.value)
def test_nothing_is_computed_for_a_wrong_key_or_a_forged_set(mode: RecoveryMode, monkeypatch: pytest.MonkeyPatch):
    picture = reloaded(encrypt(LEFT, RIGHT, mode=mode, verify=False).picture)
    monkeypatch.setattr(picture_module, "claim_pixels", lambda *_: pytest.fail("pixels were claimed"))
    monkeypatch.setattr(opening, "unseal", lambda *_: pytest.fail("a payload was decrypted"))
    with pytest.raises(WrongKeyError):
        decrypt_faces(picture, OTHER, MODEL)
    with pytest.raises(TamperedError):
        decrypt_faces(KeyedPicture(picture.pixels, (forged(picture.faces[0]), *picture.faces)), KEY, MODEL)


def test_pixels_are_claimed_and_hashed_once_for_all_faces(monkeypatch: pytest.MonkeyPatch):
    picture = reloaded(encrypt(LEFT, RIGHT, mode=SIGNFLIP, verify=False).picture)
    pixels, calls = picture.pixels, []
    monkeypatch.setattr(KeyedPicture, "binding", lambda _, bind: calls.append(bind) or b"")
    decrypt_faces(picture, KEY, MODEL)
    assert len(calls) == 1
    assert picture.claims is picture.claims
    assert picture.pixels is pixels


def test_two_passphrases_in_one_picture_share_a_salt_and_open_their_own_faces():
    keys = [PrivacyKey.from_passphrase(text) for text in ("correct horse", "battery staple")]
    first = encrypt(LEFT, key=keys[0], mode=EXACT, verify=False).picture
    both = reloaded(encrypt(RIGHT, key=keys[1], onto=first, mode=EXACT, verify=False).picture)
    assert len({header.kdf for header in both.headers}) == 1
    opened = decrypt_faces(both, keys[0])
    assert opened.opened == (0,)
    assert np.array_equal(decrypt_faces(both, keys[1], onto=opened.pixels).pixels, scene())
    assert encrypt(LEFT, key=keys[0], mode=EXACT, verify=False).picture.headers[0].kdf != both.headers[0].kdf
