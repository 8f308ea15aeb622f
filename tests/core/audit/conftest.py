"""The user's keys that all tests of the audit search for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.audit import FACE_KEY, KEY, PASSPHRASE


@pytest.fixture(autouse=True)
def keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's keys: two files and a passphrase in the environment; nobody else's."""
    for variable in [name for name in os.environ if name.startswith("FACEPRIVACY_KEY_")]:
        monkeypatch.delenv(variable)
    folder = tmp_path_factory.mktemp("keys")
    (folder / "anna.key").write_text(f"# a comment\nfaceprivacy-key-1 {KEY.hex()}\n")
    (folder / "one-face.key").write_text(f"faceprivacy-face-key-1 {FACE_KEY.hex()}\n")
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(folder))
    monkeypatch.setenv("FACEPRIVACY_KEY_FAMILY", PASSPHRASE)
    return folder
