"""Key schedule: published vectors, frozen own ones, and what is refused before hashing."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprivacy_core.errors import FormatError, InputError
from faceprivacy_core.keyed import derivation
from faceprivacy_core.keyed.derivation import FaceKey, KdfParameters, derive_face_key, derive_root, hkdf_sha256, new_nonce

ROOT = bytes(range(32))
NONCE = b"\x01" * 16
SALT = bytes(16)
FAST_N = 2**14


def reference_hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 written out for one block, from the standard library."""
    extracted = hmac.digest(salt or bytes(32), ikm, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_hkdf_gives_the_vector_of_rfc_5869():
    output = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert output.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_scrypt_gives_its_vector():
    root = derive_root(b"correct horse", KdfParameters(SALT, FAST_N))
    assert root.hex() == "72f28348847cbc0ff6e044157f5b411928fd56298aa028c0ecdcb502cc3590af"


def test_the_default_cost_works_and_is_what_a_new_salt_comes_with():
    fresh = KdfParameters.new()
    assert (fresh.n, fresh.r, fresh.p, len(fresh.salt)) == (2**17, 8, 1, 16)
    # The value is that of hashlib.scrypt.
    assert derive_root(b"correct horse", KdfParameters(SALT)).hex() == (
        "9730d2fef1c44d8860d2e44be686645e3ee5badebe191c03fbafbb05d0f93169"
    )


def test_face_key_and_subkeys_keep_their_frozen_values():
    key = derive_face_key(ROOT, NONCE, b"header")
    assert key.reveal().hex() == "4bf3aff9797672a70ea03b28794c1afbd3ce58c2c822040e284c906d29cf32d8"
    subkeys = {purpose: FaceKey(ROOT).subkey(purpose).hex() for purpose in ("commit", "enc", "decoy", "rot")}
    assert subkeys == {
        "commit": "3a21cc92370a01deec55bf21967f19d0a40fb1eeba2e94f3135946b63fdbc9b6",
        "enc": "2d74eae33b5ac44c10040ae191a903f97eab6243c7bd79c0e0e29416cb8af1ba",
        "decoy": "cfa509d3651bf980f0506055d04b958e3b9ddc8eb2415aad2bffbb71128b953e",
        "rot": "32dda8ad1149d08fa19246c4a3cadbdfcd50182e322a5e6fd42b480fc47c5727",
    }


@given(root=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=16, max_size=16), header=st.binary(max_size=200))
@settings(deadline=None, max_examples=30)
def test_the_schedule_is_the_documented_one(root: bytes, nonce: bytes, header: bytes):
    key = derive_face_key(root, nonce, header)
    info = b"faceprivacy/v1/image" + hashlib.sha256(header).digest()
    assert key.reveal() == reference_hkdf(root, nonce, info)
    assert key.subkey("pad") == reference_hkdf(key.reveal(), b"", b"faceprivacy/v1/pad")


def test_root_nonce_and_header_each_change_every_subkey():
    keys = [
        derive_face_key(ROOT, NONCE, b"header"),
        derive_face_key(ROOT[::-1], NONCE, b"header"),
        derive_face_key(ROOT, NONCE[:-1] + b"\x02", b"header"),
        derive_face_key(ROOT, NONCE, b"headeR"),
    ]
    assert len({key.subkey(purpose) for key in keys for purpose in ("rot", "enc", "commit", "decoy")}) == 16


@pytest.mark.parametrize(("root", "nonce"), [(ROOT[:-1], NONCE), ("x" * 32, NONCE), (ROOT, b""), (ROOT, NONCE + b"x")])
def test_other_lengths_and_types_are_refused(root: bytes, nonce: bytes):
    with pytest.raises(InputError):
        derive_face_key(root, nonce, b"")


HOSTILE = [
    {"n": 2**13}, {"n": 2**19}, {"n": 2**20}, {"n": 2**21}, {"n": 2**17, "r": 17}, {"n": 2**14, "r": 16, "p": 9},
    {"n": 2**14 + 1}, {"n": 0}, {"n": -(2**14)}, {"n": 2**63}, {"n": True}, {"n": 2.0**14},
    {"n": "16384"}, {"r": 0}, {"r": 33}, {"r": -1}, {"r": False}, {"p": 0}, {"p": 17}, {"p": None},
    {"n": 2**20, "r": 9}, {"n": 2**18, "r": 32, "p": 2}, {"salt": bytes(15)}, {"salt": bytes(65)}, {"salt": "00" * 16},
]  # fmt: skip


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_hostile_scrypt_parameters_are_refused_before_hashing(changes: dict, monkeypatch: pytest.MonkeyPatch):
    def scrypt(**_: object) -> None:
        pytest.fail("The parameters were not checked before hashing.")

    monkeypatch.setattr(derivation, "Scrypt", scrypt)
    values = {"salt": SALT, "n": FAST_N, "r": 8, "p": 1} | changes
    with pytest.raises(FormatError):
        derive_root(b"x", KdfParameters(**values))
    if isinstance(values["salt"], bytes):
        with pytest.raises(FormatError):
            KdfParameters.from_dict(values | {"salt": values["salt"].hex()})


EDGES = [{"n": 2**18, "r": 8}, {"n": 2**14, "r": 32, "p": 4}, {"n": 2**14, "p": 16}, {"salt": bytes(64)}]


@pytest.mark.parametrize("values", EDGES, ids=str)
def test_the_edges_of_the_ranges_are_allowed(values: dict):
    assert KdfParameters(**{"salt": SALT} | values)


@given(
    salt=st.binary(min_size=16, max_size=64),
    n=st.integers(14, 17).map(lambda power: 2**power),
    r=st.integers(1, 8),
    p=st.integers(1, 2),
)
@settings(deadline=None, max_examples=30)
def test_scrypt_parameters_survive_json(salt: bytes, n: int, r: int, p: int):
    parameters = KdfParameters(salt, n, r, p)
    assert KdfParameters.from_dict(json.loads(json.dumps(parameters.to_dict()))) == parameters


@pytest.mark.parametrize(
    "data",
    [
        None, [], "x", {}, {"n": FAST_N, "r": 8, "p": 1}, {"n": FAST_N, "r": 8, "p": 1, "salt": "0" * 31},
        {"n": FAST_N, "r": 8, "p": 1, "salt": "0" * 32, "x": 1}, {"n": FAST_N, "r": 8, "p": 1, "salt": "A" * 32},
        {"n": FAST_N, "r": 8, "p": 1, "salt": "0 " * 16}, {"n": FAST_N, "r": 8, "p": 1, "salt": 0},
    ],
    ids=str,
)  # fmt: skip
def test_other_dictionaries_are_no_scrypt_parameters(data: object):
    with pytest.raises(FormatError):
        KdfParameters.from_dict(data)


def test_nonces_and_salts_are_distinct_and_no_seed_reaches_them():
    assert len({new_nonce() for _ in range(10_000)}) == 10_000
    drawn = []
    for _ in range(2):
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        drawn += [new_nonce(), KdfParameters.new().salt]
    assert len(set(drawn)) == 4


def test_a_face_key_shows_nothing():
    key = FaceKey(ROOT)
    shown = [repr(key), str(key), f"{key}", f"{key:>60}", f"{key!r}", repr([key]), repr({"a": key})]
    shown += [repr(getattr(key, name)) for name in dir(key)]
    for text in shown:
        assert ROOT.hex() not in text
        assert repr(ROOT)[2:-1] not in text
    assert "hidden" in repr(key)
    with pytest.raises(TypeError):
        vars(key)
    for unwanted in (json.dumps, list, bytes, pickle.dumps, lambda key: key.__getstate__(), lambda key: key.__reduce__()):
        with pytest.raises(TypeError):
            unwanted(key)
    assert copy.copy(key) is key
    assert copy.deepcopy([key])[0] is key
    assert key != FaceKey(ROOT)
    assert len({key, key, FaceKey(ROOT)}) == 2


def test_keys_and_files_load_without_torch():
    modules = ("derivation", "keys", "sealing", "header", "container", "files")
    imports = "; ".join(f"import faceprivacy_core.keyed.{module}" for module in modules)
    command = [sys.executable, "-c", f"{imports}; import sys; assert 'torch' not in sys.modules"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
