"""Headers: one spelling for each value, and nothing else is read."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst

from faceprivacy_core.errors import FormatError, InputError
from faceprivacy_core.keyed import header as header_module
from faceprivacy_core.keyed.derivation import KdfParameters
from faceprivacy_core.keyed.header import MAX_COORDINATE, MAX_HEADER_BYTES, Bind, Cover, FaceHeader, RecoveryMode

KDF = KdfParameters(b"\x07" * 16, 2**14)


def face_header(**changes: Any) -> FaceHeader:
    """A valid header, changed."""
    values = {
        "mode": RecoveryMode.IMAGE, "cover": Cover.KEYED, "nonce": bytes(range(16)), "kdf": KDF, "width": 640, "height": 480,
        "crop_size": 512, "crop_to_image": (0.5, 0.0, 10.25, -0.0, 0.5, 1e-9), "cells": np.eye(5, 3, dtype=bool),
        "model": "0f" * 16, "condition": "", "steps": 50, "iterations": 10, "bind": Bind.SURROUNDINGS, "decoy": True,
    }  # fmt: skip
    return FaceHeader(**values | changes)


def edited(**changes: Any) -> bytes:
    """Canonical bytes of a valid header whose JSON was changed; ... removes a field."""
    data = json.loads(face_header().to_bytes()) | changes
    return as_json({name: value for name, value in data.items() if value is not ...})


def as_json(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def same(first: FaceHeader, second: FaceHeader) -> bool:
    return all(np.array_equal(getattr(first, item.name), getattr(second, item.name)) for item in fields(FaceHeader))


headers = st.builds(
    lambda signer, **values: FaceHeader(**values, signer=b"" if values["decoy"] or values["version"] == 1 else signer),
    version=st.sampled_from([1, 2, 3]),
    signer=st.binary(min_size=32, max_size=32),
    mode=st.sampled_from([RecoveryMode.IMAGE, RecoveryMode.SIGNFLIP]),
    cover=st.sampled_from(Cover),
    nonce=st.binary(min_size=16, max_size=16),
    kdf=st.none() | st.builds(KdfParameters, st.binary(min_size=16, max_size=64), st.just(2**15), st.integers(1, 8)),
    width=st.integers(1, 2**16),
    height=st.integers(1, 2**16),
    crop_size=st.integers(8, 512).map(lambda cells: 8 * cells),
    crop_to_image=st.tuples(*[st.floats(-MAX_COORDINATE, MAX_COORDINATE)] * 6),
    cells=nst.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))).filter(np.any),
    model=st.sampled_from(["", "0123456789abcdef" * 2]),
    condition=st.sampled_from(["", "f" * 32]),
    steps=st.integers(0, 1000),
    iterations=st.integers(0, 100),
    bind=st.sampled_from(Bind),
    decoy=st.booleans(),
)


@given(header=headers)
@settings(deadline=None, max_examples=40)
def test_headers_survive_their_bytes(header: FaceHeader):
    data = header.to_bytes()
    read = FaceHeader.from_bytes(data)
    assert same(read, header)
    assert read.to_bytes() == data


def test_the_bytes_are_canonical_json_and_keep_their_frozen_value():
    assert face_header().to_bytes() == FROZEN
    assert face_header(version=1).to_bytes() == FROZEN_V1
    assert same(FaceHeader.from_bytes(FROZEN_V1), face_header(version=1))
    signed = face_header(decoy=False, signer=b"\xab" * 32).to_bytes()
    assert signed == FROZEN.replace(b'"signer":""', b'"signer":"' + b"ab" * 32 + b'"').replace(b"true", b"false")


def test_cells_are_a_private_copy_that_cannot_be_written():
    cells = np.ones((2, 3), dtype=bool)
    header = face_header(cells=cells)
    cells[:] = False
    assert header.cells.all()
    with pytest.raises(ValueError, match="read-only"):
        header.cells[0, 0] = False


def test_numbers_of_a_map_may_come_as_an_array():
    matrix = np.array([[1, 0, 2], [0, 1, 3]], dtype=np.float32)
    assert face_header(crop_to_image=matrix).crop_to_image == (1.0, 0.0, 2.0, 0.0, 1.0, 3.0)


def test_a_largest_header_stays_far_below_the_cap():
    assert len(face_header(cells=np.ones((512, 512), dtype=bool)).to_bytes()) < MAX_HEADER_BYTES // 10


OUT_OF_RANGE: list[dict[str, Any]] = [
    {"version": 0}, {"version": 4}, {"version": True}, {"signer": bytes(32)}, {"signer": "00" * 32}, {"signer": None},
    {"nonce": bytes(15)}, {"nonce": bytes(17)}, {"nonce": "0" * 16},
    {"width": 0}, {"width": 2**16 + 1}, {"height": -1}, {"height": 1.0}, {"width": True}, {"width": np.int64(5)},
    {"crop_size": 56}, {"crop_size": 4104}, {"crop_size": 100}, {"crop_to_image": (1.0,) * 5},
    {"crop_to_image": (1.0,) * 7}, {"crop_to_image": (2.0**25,) * 6},
    {"crop_to_image": (math.nan,) * 6}, {"crop_to_image": (math.inf,) * 6},
    {"cells": np.zeros((4, 4), dtype=bool)}, {"cells": np.ones((4, 4), dtype=np.uint8)}, {"cells": np.ones(4, dtype=bool)},
    {"cells": np.ones((513, 1), dtype=bool)}, {"cells": np.ones((0, 4), dtype=bool)}, {"cells": [[True]]},
    {"model": "f" * 31}, {"model": "F" * 32}, {"model": None}, {"condition": "g" * 32}, {"condition": "f" * 32 + "\n"},
    {"steps": -1}, {"steps": 1001}, {"iterations": 101}, {"iterations": "1"}, {"decoy": 1}, {"mode": "image"},
    {"bind": Cover.KEYED}, {"kdf": KDF.to_dict()},
    {"mode": RecoveryMode.EXACT}, {"mode": RecoveryMode.LATENT},
]  # fmt: skip


@pytest.mark.parametrize("changes", OUT_OF_RANGE, ids=lambda changes: next(iter(changes)))
def test_values_out_of_range_are_refused_by_name(changes: dict[str, Any]):
    name = "decoy" if isinstance(changes.get("mode"), RecoveryMode) else next(iter(changes))
    with pytest.raises(InputError, match=f"Expected {name} of a keyed face"):
        face_header(**changes)


@pytest.mark.parametrize("mode", RecoveryMode)
def test_only_modes_without_a_payload_to_check_have_a_decoy(mode: RecoveryMode):
    assert not face_header(mode=mode, decoy=False, signer=bytes(32)).decoy
    if mode in (RecoveryMode.IMAGE, RecoveryMode.SIGNFLIP):
        assert face_header(mode=mode, decoy=True).decoy


GOOD_CELLS = {"bits": "8000", "columns": 3, "rows": 3}
BAD_JSON: list[dict[str, Any]] = [
    {"version": ...}, {"unknown": 1}, {"version": 1}, {"version": 4}, {"version": True}, {"version": []}, {"signer": ...},
    {"signer": "00"}, {"signer": "00" * 32}, {"signer": None}, {"decoy": False}, {"version": 1.0}, {"version": "1"},
    {"mode": "none"}, {"mode": 1}, {"mode": []}, {"mode": None}, {"cover": {}}, {"bind": "image"}, {"decoy": 1},
    {"decoy": None}, {"mode": "exact"}, {"nonce": "00" * 15}, {"nonce": "0" * 31}, {"nonce": "0G" * 16}, {"nonce": "AB" * 16},
    {"nonce": " " * 32}, {"nonce": 0}, {"nonce": None}, {"kdf": {}}, {"kdf": []}, {"kdf": False}, {"kdf": 0},
    {"kdf": KDF.to_dict() | {"n": 2**40}}, {"kdf": KDF.to_dict() | {"x": 1}}, {"kdf": KDF.to_dict() | {"n": True}},
    {"width": 0}, {"width": 10**11}, {"width": 10**20}, {"width": 1.5}, {"width": None}, {"height": "5"}, {"height": [1]},
    {"crop_size": 60}, {"crop_size": 65}, {"crop_to_image": [1.0] * 5}, {"crop_to_image": [1] * 6}, {"crop_to_image": None},
    {"crop_to_image": [True] * 6}, {"crop_to_image": [[1.0] * 3] * 2}, {"crop_to_image": [None] * 6},
    {"crop_to_image": ["1.0"] * 6}, {"cells": None}, {"cells": "ff"}, {"cells": {}}, {"cells": GOOD_CELLS | {"x": 1}},
    {"cells": GOOD_CELLS | {"bits": "80"}}, {"cells": GOOD_CELLS | {"bits": "800000"}},
    {"cells": GOOD_CELLS | {"bits": "0000"}},
    {"cells": GOOD_CELLS | {"bits": "8001"}}, {"cells": GOOD_CELLS | {"rows": 0}}, {"cells": GOOD_CELLS | {"rows": 513}},
    {"cells": GOOD_CELLS | {"rows": True}}, {"cells": GOOD_CELLS | {"columns": 3.0}}, {"cells": GOOD_CELLS | {"bits": 0}},
    {"cells": {"bits": "", "rows": 2**31, "columns": 2**31}}, {"model": None}, {"model": "f" * 33}, {"model": 0},
    {"model": "\ud800" * 32}, {"condition": "F" * 32}, {"steps": 1001}, {"steps": -1}, {"iterations": 1e2}, {"steps": {}},
]  # fmt: skip


def test_the_edits_below_start_from_something_readable():
    assert same(FaceHeader.from_bytes(edited()), face_header())
    assert FaceHeader.from_bytes(edited(cells=GOOD_CELLS)).cells.sum() == 1


@pytest.mark.parametrize("changes", BAD_JSON, ids=lambda changes: next(iter(changes)))
def test_other_fields_types_and_values_are_not_read(changes: dict[str, Any]):
    with pytest.raises(FormatError):
        FaceHeader.from_bytes(edited(**changes))


def spoiled() -> dict[str, bytes]:
    """Other spellings of a valid header, and what is none."""
    good = face_header().to_bytes()
    data = json.loads(good)
    return {
        "space": good.replace(b":", b": ", 1), "newline": good + b"\n", "zero": good + b"\0", "cut": good[:-1],
        "order": json.dumps(dict(reversed(data.items())), separators=(",", ":")).encode(),
        "twice": good.replace(b"{", b'{"bind":"none",', 1), "escape": good.replace(b'"bind"', b'"\\u0062ind"'),
        "exponent": good.replace(b"10.25", b"1.025e1"), "digits": good.replace(b"10.25", b"10.250"),
        "uppercase": good.replace(b'"0f0f', b'"0F0f'), "nan": good.replace(b"10.25", b"NaN"),
        "infinity": good.replace(b"10.25", b"1e999"), "utf-16": good.decode().encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + good, "latin": good.replace(b'""', b'"\xf6"'), "high bit": good[:-1] + b"\xfd",
        "empty": b"", "null": b"null", "list": b"[]",
    }  # fmt: skip


@pytest.mark.parametrize("name", spoiled())
def test_one_spelling_only_is_read(name: str):
    data = spoiled()[name]
    assert data != face_header().to_bytes(), "the edit changed nothing"
    with pytest.raises(FormatError):
        FaceHeader.from_bytes(data)


HOSTILE = {
    "lists": b"[" * 1_000_000, "objects": b'{"a":' * 150_000, "digits": b"9" * 1_000_000, "negative": b"-" + b"9" * 999_999,
    "many": b"[" + b"{}," * 340_000, "spaces": b" " * (2**20 + 1),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_costs_neither_time_nor_memory(data: bytes):
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError):
        FaceHeader.from_bytes(data)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20
    assert seconds < 2.0


def test_a_header_over_the_cap_is_not_parsed(monkeypatch: pytest.MonkeyPatch):
    data = face_header().to_bytes()
    monkeypatch.setattr(header_module, "MAX_HEADER_BYTES", len(data))
    assert FaceHeader.from_bytes(data)
    monkeypatch.setattr(header_module, "MAX_HEADER_BYTES", len(data) - 1)
    with pytest.raises(FormatError):
        FaceHeader.from_bytes(data)


def test_replace_checks_again():
    with pytest.raises(InputError):
        replace(face_header(), steps=5000)


FROZEN_V1 = (
    b'{"bind":"surroundings","cells":{"bits":"8880","columns":3,"rows":5},"condition":"","cover":"keyed","crop_size"'
    b':512,"crop_to_image":[0.5,0.0,10.25,-0.0,0.5,1e-09],"decoy":true,"height":480,"iterations":10,"kdf":{"n":16384'
    b',"p":1,"r":8,"salt":"07070707070707070707070707070707"},"mode":"image","model":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
    b'0f","nonce":"000102030405060708090a0b0c0d0e0f","steps":50,"version":1,"width":640}'
)
FROZEN = FROZEN_V1.replace(b'"steps":50,"version":1', b'"signer":"","steps":50,"version":3')
