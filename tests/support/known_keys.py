"""Keys of known bytes, and what must never be seen of them."""

from __future__ import annotations

import traceback
from pathlib import Path

from faceprivacy_core.keyed.derivation import KdfParameters
from faceprivacy_core.keyed.keys import PrivacyKey

RAW = bytes(range(100, 132))
LINE = f"faceprivacy-key-1 {RAW.hex()}"
"""What a key file says."""
NONCE = b"\x01" * 16
HEADER = b"{}"
FAST = KdfParameters(bytes(16), 2**14)
PASSPHRASE = "hunter2 SECRET"


def all_kinds(name: str = "") -> list[PrivacyKey]:
    """Return a raw key, a passphrase, and the released key of one face."""
    return [
        PrivacyKey.from_bytes(RAW, name), PrivacyKey.from_passphrase(PASSPHRASE, name), PrivacyKey.from_face_key(RAW, name),
    ]  # fmt: skip


def face_bytes(passphrase: str) -> bytes:
    """Return the key of one face under a passphrase."""
    return PrivacyKey.from_passphrase(passphrase).face_key(FAST, NONCE, HEADER).reveal()


def write_private(path: Path, text: str | bytes) -> None:
    """Write a file that only its owner can use."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)


def assert_silent(error: BaseException, secrets: list[str], *, in_traceback: bool = True) -> None:
    """Make sure that no error of a chain carries a secret: in its text, its attributes or its traceback."""
    while error is not None:
        carried = [str(error), repr(error), repr(error.args), repr(vars(error))]
        carried += [repr(getattr(error, name, "")) for name in ("object", "reason", "filename", "doc")]
        if in_traceback:
            carried += traceback.format_exception(error)
        assert not [secret for secret in secrets for text in carried if secret in text]
        error = error.__cause__ or error.__context__
