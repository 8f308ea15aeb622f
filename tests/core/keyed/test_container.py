"""Containers: round trips, and 2,000 ways to spoil one."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprivacy_core.commands.inspect import describe_header
from faceprivacy_core.errors import FormatError, InputError, TamperedError, WrongKeyError
from faceprivacy_core.keyed import container
from faceprivacy_core.keyed.container import MAGICS, KeyedFaceRecord, pack, unpack
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.derivation import KdfParameters, new_nonce
from faceprivacy_core.keyed.header import Bind, Cover, FaceHeader, RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.sealing import seal, unseal

KEY = PrivacyKey.from_bytes(bytes(range(32)))
MAGIC = MAGICS[3]
AAD = b"picture"
SIGNER = bytes(range(32))
FACES = (b"first face" * 20, b"second face" * 10, b"")


def face_header(**changes: Any) -> FaceHeader:
    """A valid header, changed."""
    values = {
        "mode": RecoveryMode.LATENT, "cover": Cover.INDEPENDENT, "nonce": new_nonce(), "kdf": None, "width": 640,
        "height": 480, "crop_size": 512, "crop_to_image": (0.5, 0.0, 10.0, 0.0, 0.5, 20.0), "cells": np.eye(8, dtype=bool),
        "model": "", "condition": "", "steps": 0, "iterations": 0, "bind": Bind.PICTURE, "decoy": False,
        "signer": b"" if changes.get("decoy") or changes.get("version") == 1 else SIGNER,
    }  # fmt: skip
    return FaceHeader(**values | changes)


def sealed(face: bytes) -> KeyedFaceRecord:
    header = face_header()
    data = header.to_bytes()
    return KeyedFaceRecord(header, seal(KEY.face_key(None, header.nonce, data), data, face, AAD))


def open_all(records: Sequence[KeyedFaceRecord]) -> list[bytes]:
    """Open every face as a reader does."""
    opened = []
    for record in records:
        header = record.header.to_bytes()
        key = KEY.face_key(record.header.kdf, record.header.nonce, header)
        opened.append(unseal(key, header, record.blob, AAD))
    return opened


def as_bytes(records: tuple[KeyedFaceRecord, ...]) -> list[tuple[bytes, bytes]]:
    return [(record.header.to_bytes(), record.blob) for record in records]


@given(blobs=st.lists(st.binary(max_size=100), min_size=1, max_size=10))
@settings(deadline=None, max_examples=50)
def test_records_survive_their_bytes_in_order(blobs: list[bytes]):
    records = tuple(KeyedFaceRecord(face_header(), blob) for blob in blobs)
    data = pack(records)
    assert as_bytes(unpack(data)) == as_bytes(records)
    assert pack(unpack(data)) == data


def test_the_layout_is_the_documented_one():
    header = face_header()
    data = pack([KeyedFaceRecord(header, b"blob")])
    text = header.to_bytes()
    assert data == b"FPRV3\0" + b"\0\1" + struct.pack(">I", len(text)) + text + b"\0\0\0\4blob"


def test_sealed_faces_open_after_the_journey():
    assert open_all(unpack(pack([sealed(face) for face in FACES]))) == list(FACES)


def test_as_many_faces_as_allowed_fit():
    records = [KeyedFaceRecord(face_header(), b"") for _ in range(256)]
    data = pack(records)
    assert len(unpack(data)) == 256
    one_more = MAGIC + struct.pack(">H", 257) + data[8:] + pack(records[:1])[8:]
    with pytest.raises(FormatError):
        unpack(one_more)


def test_what_does_not_fit_is_not_written(monkeypatch: pytest.MonkeyPatch):
    record = KeyedFaceRecord(face_header(), bytes(5000))
    for records in ([], [record] * 257):
        with pytest.raises(InputError, match="Expected 1 to 256"):
            pack(records)
    for name in ("MAX_BLOB_BYTES", "MAX_HEADER_BYTES", "MAX_CONTAINER_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(container, name, 100)
            with pytest.raises(InputError, match="Expected at most"):
                pack([record])


@pytest.mark.parametrize("changes", [{"width": 641}, {"height": 481}], ids=str)
def test_faces_of_different_pictures_do_not_mix(changes: dict):
    first, second = KeyedFaceRecord(face_header(), b"a"), KeyedFaceRecord(face_header(**changes), b"b")
    with pytest.raises(InputError, match="different sizes"):
        pack([first, second])
    spliced = MAGIC + b"\0\2" + pack([first])[8:] + pack([second])[8:]
    with pytest.raises(FormatError):
        unpack(spliced)


def framed(header_length: int, header: bytes, blob_length: int, blob: bytes, count: int = 1) -> bytes:
    return MAGIC + struct.pack(">HI", count, header_length) + header + struct.pack(">I", blob_length) + blob


def test_lengths_that_lie_are_refused():
    text = face_header().to_bytes()
    length = len(text)
    assert len(unpack(framed(length, text, 4, b"blob"))) == 1
    huge = 2**32 - 1
    for lying in (
        framed(length, text, 5, b"blob"), framed(length, text, 3, b"blob"), framed(length + 1, text, 4, b"blob"),
        framed(length - 1, text, 4, b"blob"), framed(huge, text, 4, b"blob"), framed(length, text, huge, b"blob"),
        framed(0, b"", 0, b""), framed(length, text, 4, b"blob", count=0), framed(length, text, 4, b"blob", count=2),
        framed(length, text, 4, b"blob", count=257), framed(length, text, 4, b"blob", count=65535),
        framed(2**20 + 1, bytes(2**20 + 1), 0, b""), framed(length, text, 4, b"blob") + b"\0", MAGIC, MAGIC + b"\0", b"",
        b"FPRV1\0" + framed(length, text, 4, b"blob")[6:], b"FPRV2\0" + framed(length, text, 4, b"blob")[6:],
        framed(length, text, 4, b"blob")[1:],
    ):  # fmt: skip
        with pytest.raises(FormatError):
            unpack(lying)


def test_a_blob_over_the_cap_is_refused_though_it_is_there(monkeypatch: pytest.MonkeyPatch):
    data = pack([KeyedFaceRecord(face_header(), bytes(1000))])
    monkeypatch.setattr(container, "MAX_BLOB_BYTES", 999)
    with pytest.raises(FormatError):
        unpack(data)


CHANGES: list[dict[str, Any]] = [
    {"mode": RecoveryMode.EXACT}, {"cover": Cover.KEYED}, {"nonce": bytes(16)}, {"kdf": KdfParameters(bytes(16), 2**14)},
    {"width": 641}, {"height": 481}, {"crop_size": 520}, {"crop_to_image": (0.5, 0.0, 10.0, 0.0, 0.5, 20.000000000000004)},
    {"cells": np.eye(8, dtype=bool)[::-1]}, {"cells": np.eye(8, 9, dtype=bool)}, {"model": "0" * 32}, {"condition": "0" * 32},
    {"steps": 1}, {"iterations": 1}, {"bind": Bind.NONE}, {"mode": RecoveryMode.IMAGE, "decoy": True, "signer": b""},
    {"version": 1, "signer": b""},
    {"signer": SIGNER[::-1]},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: "+".join(changes))
def test_every_field_of_the_header_is_authenticated(changes: dict[str, Any]):
    record = sealed(FACES[0])
    data = pack([KeyedFaceRecord(replace(record.header, **changes), record.blob)])
    with pytest.raises((WrongKeyError, TamperedError)):
        open_all(unpack(data))


def test_blobs_cannot_change_places():
    first, second = sealed(FACES[0]), sealed(FACES[1])
    swapped = [KeyedFaceRecord(first.header, second.blob), KeyedFaceRecord(second.header, first.blob)]
    with pytest.raises(WrongKeyError):
        open_all(unpack(pack(swapped)))


def spoil(data: bytes, numbers: random.Random) -> bytes:
    """Change, cut out, put in, double or cut off a few bytes."""
    place, length = numbers.randrange(len(data)), numbers.choice([1, 2, 4, 16, 100])
    return {
        "bit": lambda: data[:place] + bytes([data[place] ^ 1 << numbers.randrange(8)]) + data[place + 1 :],
        "byte": lambda: data[:place] + numbers.randbytes(1) + data[place + 1 :],
        "overwrite": lambda: data[:place] + numbers.randbytes(length) + data[place + length :],
        "extreme": lambda: data[:place] + numbers.choice([b"\0", b"\xff"]) * 4 + data[place + 4 :],
        "delete": lambda: data[:place] + data[place + length :],
        "insert": lambda: data[:place] + numbers.randbytes(length) + data[place:],
        "repeat": lambda: data[:place] + data[place : place + length] * 2 + data[place + length :],
        "cut": lambda: data[:place],
        "prefix": lambda: data[: numbers.randrange(64)],
        "tail": lambda: data + numbers.randbytes(length),
    }[numbers.choice(["bit", "byte", "overwrite", "extreme", "delete", "insert", "repeat", "cut", "prefix", "tail"])]()


def test_two_thousand_spoiled_containers_open_nothing_and_cost_little():
    data, numbers = pack([sealed(face) for face in FACES]), random.Random(5)
    errors = {FormatError: 0, WrongKeyError: 0, TamperedError: 0}
    slowest = 0.0
    while (done := sum(errors.values())) < 2000:
        if done == 1600 and not tracemalloc.is_tracing():
            tracemalloc.start()  # it makes everything three times as slow, so it watches the last ones only
        spoiled = spoil(data, numbers)
        if spoiled == data:
            continue
        start = time.perf_counter()
        try:
            records = unpack(spoiled)
        except FormatError:
            errors[FormatError] += 1
        else:
            with pytest.raises((WrongKeyError, TamperedError)) as caught:
                open_all(records)
            errors[caught.type] += 1
        slowest = max(slowest, time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min(errors.values()) > 50, f"every kind of refusal was met: {errors}"
    assert peak < 50 * 2**20
    assert slowest < 1.0, "typically 2 ms; the bound leaves room for a busy machine"


@given(data=st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_refused(data: bytes):
    for start in (b"", MAGIC, MAGIC + b"\0\1"):
        with pytest.raises(FormatError):
            unpack(start + data)


NUMBERS = st.one_of(st.floats(-400, 400), st.floats(allow_nan=False, allow_infinity=False))


@given(place=st.tuples(*[NUMBERS] * 6), cell=st.integers(0, 63))
@settings(deadline=None, max_examples=300)
def test_any_place_of_a_face_is_claimed_or_refused(place: tuple[float, ...], cell: int):
    """Whoever forges a header chooses where the face lies, and is read before any key is tried."""
    cells = np.arange(64).reshape(8, 8) == cell
    try:
        header = face_header(width=64, height=48, crop_size=64, crop_to_image=place, cells=cells)
    except InputError:
        return
    assert len(describe_header(header, 0)["centre"]) < 40
    picture = KeyedPicture.from_container(np.zeros((48, 64, 3), np.uint8), pack([KeyedFaceRecord(header, bytes(100))]))
    with pytest.raises((FormatError, WrongKeyError)):
        decrypt_faces(picture, KEY)


def test_many_faces_that_each_take_the_whole_picture_are_refused_at_once():
    forged = face_header(width=64, height=48, crop_size=64, crop_to_image=(9.0, 0.0, -99.0, 0.0, 9.0, -99.0))
    records = tuple(KeyedFaceRecord(replace(forged, nonce=new_nonce()), bytes(100)) for _ in range(256))
    with pytest.raises(FormatError):
        decrypt_faces(KeyedPicture(np.zeros((48, 64, 3), np.uint8), records), KEY)
