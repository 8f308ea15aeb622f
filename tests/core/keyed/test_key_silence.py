"""Errors and code near the keys give nothing away."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from faceprivacy_core.errors import FacePrivacyError
from faceprivacy_core.keyed import derivation
from faceprivacy_core.keyed.keys import load_key
from faceprivacy_core.keyed.sealing import seal, unseal
from tests.support.known_keys import FAST, HEADER, LINE, NONCE, PASSPHRASE, RAW, all_kinds, assert_silent, write_private


def test_errors_carry_neither_key_nor_passphrase_nor_plaintext(tmp_path: Path):
    raw, passphrase, released = all_kinds("studio")
    opened = raw.face_key(None, NONCE, HEADER)
    plaintext = b"plain face"
    blob = seal(opened, HEADER, plaintext, b"")
    write_private(tmp_path / "bad.key", LINE + "0")
    failing: list[Callable[[], object]] = [
        lambda: raw.face_key(FAST, NONCE, HEADER),
        lambda: passphrase.face_key(None, NONCE, HEADER),
        lambda: raw.face_key(None, b"", HEADER),
        lambda: unseal(released.face_key(None, NONCE, HEADER), HEADER, blob, b""),
        lambda: unseal(opened, HEADER, blob[:-1] + bytes([blob[-1] ^ 1]), b""),
        lambda: unseal(opened, HEADER, blob[:10], b""),
        lambda: load_key(PASSPHRASE, folder=tmp_path, environ={}),
        lambda: load_key("hunter2", folder=tmp_path, environ={}),
        lambda: load_key("bad", folder=tmp_path, environ={}),
        lambda: load_key("a", folder=tmp_path, environ={"FACEPRIVACY_KEY_A": PASSPHRASE + "\udcff"}),
    ]
    for fail in failing:
        error = catch(fail)
        secrets = [RAW.hex(), repr(RAW)[2:-1], PASSPHRASE, "plain face", opened.reveal().hex()]
        assert_silent(error, secrets)
    # With the locals of every frame: errors that arise although key and payload are sound.
    for fail in failing[:6]:
        lines = traceback.TracebackException.from_exception(catch(fail), capture_locals=True).format()
        assert [line for line in lines for secret in (RAW.hex(), repr(RAW)[2:-1], PASSPHRASE) if secret in line] == []


def catch(fail: Callable[[], object]) -> BaseException:
    """Return the error, without this test's own frame, whose locals are the secrets."""
    try:
        fail()
    except FacePrivacyError as error:
        return error.with_traceback(error.__traceback__.tb_next.tb_next)
    raise AssertionError("nothing was refused")


FOLDER = Path(derivation.__file__).parent
FORBIDDEN_MODULES = {"random", "pickle", "shelve", "marshal"}
FORBIDDEN_NAMES = {
    "np": {"random", "load"},
    "numpy": {"random", "load"},
    "torch": {"manual_seed", "seed", "rand", "randn", "randint", "randperm", "bernoulli", "Generator", "load", "save"},
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_seeded_generator_and_no_pickle_is_near_the_keys(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
            assert not {alias.name for alias in node.names} & FORBIDDEN_NAMES.get(node.module or "", set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in FORBIDDEN_NAMES.get(node.value.id, set()), f"{node.value.id}.{node.attr}"
