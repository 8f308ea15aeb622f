"""Keys for the host under test: planted where a user would place them, to be looked for where they must not be."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

FOLDER = "keys"
PASSPHRASE_NAME = "planted"
PASSPHRASE = "hunter2-SECRET-7f3a correct horse"
"""Passphrase of the key named above, from the server's environment."""


def key_environment(base: Path) -> dict[str, str]:
    """Return the environment of a host whose keys lie in its base directory."""
    return {
        "FACEPRIVACY_KEY_DIR": str((base / FOLDER).resolve()),
        f"FACEPRIVACY_KEY_{PASSPHRASE_NAME.upper()}": PASSPHRASE,
        "FACEPRIVACY_DECRYPT_IN_SERVER": PASSPHRASE_NAME,
    }


def ensure_key(base: Path, name: str, *, decrypts: str = "yes") -> str:
    """Make sure that there is a key file of this name; return its key as hexadecimal digits."""
    folder = base / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.key"
    if not path.exists():
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"faceprivacy-key-1 {secrets.token_hex(32)}\ndecrypt-in-server: {decrypts}\n")
    return path.read_text().split()[1]
