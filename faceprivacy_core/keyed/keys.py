"""Keys by name: opaque handles, and where they are kept.

A key is named everywhere and shown nowhere. What was typed into a name field may be a
passphrase, so no message repeats it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path

import platformdirs

from ..errors import InputError, KeyNotFoundError, WrongKeyError
from .derivation import (
    KEY_BYTES,
    FaceKey,
    KdfParameters,
    Opaque,
    check_key_bytes,
    check_nonce,
    derive_face_key,
    derive_root,
    hkdf_sha256,
)

VARIABLE_PREFIX = "FACEPRIVACY_KEY_"
FOLDER_VARIABLE = "FACEPRIVACY_KEY_DIR"
KEY_SUFFIX = ".key"
PASSPHRASE_ID = "passphrase"  # noqa: S105 - a word shown instead of an id, not a secret
MAX_KEY_FILE_BYTES = 4096
KEPT_ROOTS = 16
"""Passphrase hashes a handle remembers, one for each salt it met last."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED_NAME = "DIR"  # its variable is the one that names the folder
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
_KEY_LINE = re.compile(r"(faceprivacy-key-1|faceprivacy-face-key-1) ([0-9a-fA-F]{64})")
_RAW_KEY_TAG, _FACE_KEY_TAG = "faceprivacy-key-1", "faceprivacy-face-key-1"
_FILE_COMMENT = "# Whoever has this file can bring back the original faces. Keep it private, and keep a copy.\n"
_BAD_NAME = (
    "Expected the name of a key: 1 to 64 letters, digits, '-' and '_', other than 'dir'. Got something else. A key or "
    "passphrase itself never goes here; make a key with: faceprivacy key new NAME"
)

DeriveFaceKey = Callable[[KdfParameters | None, bytes, bytes], FaceKey]


class KeyKind(str, Enum):
    """What a handle holds."""

    RAW = "raw key"
    PASSPHRASE = "passphrase"  # noqa: S105 - a kind, not a secret
    FACE = "key of one face"


class PrivacyKey(Opaque):
    """Handle on a key. Shows its name and public id, never the key.

    Made by `from_bytes`, `from_passphrase` and `from_face_key`.
    """

    __slots__ = ("__derive", "__kind", "__name", "__public_id")

    def __init__(self, kind: KeyKind, name: str, public_id: str, derive: DeriveFaceKey) -> None:
        if name:
            check_name(name)
        self.__kind, self.__name, self.__public_id, self.__derive = kind, name, public_id, derive

    @classmethod
    def from_bytes(cls, raw: bytes, name: str = "") -> PrivacyKey:
        """Make a handle on 32 random bytes.

        Raises:
            InputError: Not 32 bytes, or not a name.
        """
        check_key_bytes(raw)
        return cls(KeyKind.RAW, name, _public_id(raw), lambda _, nonce, header: derive_face_key(raw, nonce, header))

    @classmethod
    def from_passphrase(cls, text: str, name: str = "") -> PrivacyKey:
        """Make a handle on a passphrase; spaces at its ends count.

        Args:
            text: Brought to Unicode form NFKC, so that it is the same from every keyboard.
            name: Under which it is known.

        Raises:
            InputError: Empty, not valid Unicode, or not a name.
        """
        if not isinstance(text, str) or not text or _has_surrogates(text):
            raise InputError("Expected a passphrase of valid text, got none or something else.")
        root = _remembered_root(unicodedata.normalize("NFKC", text).encode("utf-8"))
        # No id: one made from a passphrase would let anyone test guesses.
        return cls(
            KeyKind.PASSPHRASE, name, PASSPHRASE_ID, lambda kdf, nonce, header: derive_face_key(root(kdf), nonce, header)
        )

    @classmethod
    def from_face_key(cls, raw: bytes, name: str = "") -> PrivacyKey:
        """Make a handle on the released key of one face; it opens that face and no other.

        Not for encrypting: its face key is always the same.

        Raises:
            InputError: Not 32 bytes, or not a name.
        """
        face_key = FaceKey(raw)
        return cls(KeyKind.FACE, name, f"face-{_public_id(raw)}", lambda *_: face_key)

    @property
    def kind(self) -> KeyKind:
        return self.__kind

    @property
    def name(self) -> str:
        return self.__name

    @property
    def public_id(self) -> str:
        """Eight hexadecimal digits that tell keys apart; the word "passphrase" for a passphrase."""
        return self.__public_id

    def __repr__(self) -> str:
        return f"PrivacyKey(name={self.name!r}, id={self.public_id})"

    def new_kdf(self) -> KdfParameters | None:
        """Return fresh scrypt parameters for a passphrase, None for the other kinds."""
        return KdfParameters.new() if self.kind is KeyKind.PASSPHRASE else None

    def face_key(self, kdf: KdfParameters | None, nonce: bytes, header: bytes) -> FaceKey:
        """Derive the key of one face. A passphrase is hashed once for all faces with one `kdf`.

        Args:
            kdf: From the header: parameters for a passphrase, None for a raw key.
            nonce: The 16 bytes of the face.
            header: The header's bytes as stored.

        Raises:
            WrongKeyError: The face was encrypted with a passphrase and this is a raw key, or
                the other way round.
            InputError: The nonce has another length.
        """
        if self.kind is not KeyKind.FACE and (kdf is not None) != (self.kind is KeyKind.PASSPHRASE):
            raise WrongKeyError
        check_nonce(nonce)
        return self.__derive(kdf, nonce, header)


def load_key(name: str, *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> PrivacyKey:
    """Get a key by its name: from the environment, else from the folder of keys.

    The variable is FACEPRIVACY_KEY_ and the name in capitals, '-' written as '_'. A value of
    64 hexadecimal digits is a raw key, any other a passphrase.

    Args:
        name: 1 to 64 letters, digits, '-' and '_'.
        folder: Folder of key files; None means `key_folder(environ)`.
        environ: Environment variables.

    Raises:
        InputError: Not a name, or a passphrase that is not valid text.
        KeyNotFoundError: No such key, or one that cannot be used.
    """
    variable = _variable(name)
    if variable not in environ:
        return _load_file(_path(name, key_folder(environ) if folder is None else folder), name)
    if not environ[variable]:
        raise KeyNotFoundError(f"Expected a key in the environment variable {variable}, it is empty. Set or remove it.")
    if _HEX_KEY.fullmatch(environ[variable]):
        return PrivacyKey.from_bytes(bytes.fromhex(environ[variable]), name)
    return PrivacyKey.from_passphrase(environ[variable], name)


def key_place(name: str, *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Say where `load_key` takes a key from, whether or not there is one."""
    variable = _variable(name)
    if variable in environ:
        return f"environment variable {variable}"
    return str(_path(name, key_folder(environ) if folder is None else folder))


def key_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of key files: FACEPRIVACY_KEY_DIR, else one among the user's settings."""
    chosen = environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_config_path("faceprivacy") / "keys"


def has_key(name: str, *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether anything stands under this name, be it a usable key or not.

    Raises:
        InputError: Not a name.
    """
    return _variable(name) in environ or os.path.lexists(_path(name, key_folder(environ) if folder is None else folder))


def list_keys(folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of the key files in a folder, sorted; none when there is no folder."""
    folder = key_folder() if folder is None else folder
    names = [path.stem for path in folder.glob("*" + KEY_SUFFIX)]
    return tuple(sorted(name for name in names if _is_name(name)))


def create_key(name: str, folder: Path | None = None) -> Path:
    """Make a new random key and write it to a file only its owner can read.

    Raises:
        InputError: Not a name, a key of this name exists, or the folder cannot be written.
    """
    return _write_file(name, folder, lambda: f"{_RAW_KEY_TAG} {secrets.token_bytes(KEY_BYTES).hex()}")


def save_face_key(name: str, face_key: FaceKey, folder: Path | None = None) -> Path:
    """Write the key of one face to a file, so that this face alone can be released.

    Raises:
        InputError: As for `create_key`.
    """
    return _write_file(name, folder, lambda: f"{_FACE_KEY_TAG} {face_key.reveal().hex()}")


def check_name(name: str) -> None:
    """Make sure that a name is one; InputError otherwise, which does not repeat it."""
    if not _is_name(name):
        raise InputError(_BAD_NAME)


def _is_name(name: str) -> bool:
    # A raw key is a word of 64 letters and digits too, and must not be taken for a name.
    is_word = isinstance(name, str) and _NAME.fullmatch(name) is not None and _HEX_KEY.fullmatch(name) is None
    return is_word and name.upper() != _RESERVED_NAME


def _public_id(raw: bytes) -> str:
    # Its info starts unlike that of every other key, so the id says nothing about them.
    return hkdf_sha256(raw, b"", b"faceprivacy/public-id/v1", 4).hex()


def _remembered_root(passphrase: bytes) -> Callable[[KdfParameters], bytes]:
    return lru_cache(KEPT_ROOTS)(lambda kdf: derive_root(passphrase, kdf))


def _has_surrogates(text: str) -> bool:
    # Encoding would fail with an error that carries the text.
    return any("\ud800" <= character <= "\udfff" for character in text)


def _variable(name: str) -> str:
    check_name(name)
    return VARIABLE_PREFIX + name.upper().replace("-", "_")


def _path(name: str, folder: Path) -> Path:
    check_name(name)
    return Path(folder) / (name + KEY_SUFFIX)


def _load_file(path: Path, name: str) -> PrivacyKey:
    try:
        # Without O_NONBLOCK, a named pipe under this name would make the program wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise KeyNotFoundError(
            f"Expected a key of this name in the environment variable {VARIABLE_PREFIX}NAME (in capitals, '-' written "
            f"as '_') or in the file NAME{KEY_SUFFIX} in {path.parent}, found neither. Make one with: "
            "faceprivacy key new NAME, or in a graph with 'create' of Privacy Key."
        ) from None
    except OSError as error:
        raise KeyNotFoundError(f"Expected to read the key file {path}, got: {error.strerror}. Check who owns it.") from None
    try:
        status = os.fstat(descriptor)
        is_file = stat.S_ISREG(status.st_mode)
        if is_file and os.name == "posix" and status.st_mode & 0o077:
            raise KeyNotFoundError(
                f"Expected a key file that only its owner can use, others may use {path} too. Run: chmod 600 '{path}'"
            )
        key = _parse(os.read(descriptor, MAX_KEY_FILE_BYTES + 1), name) if is_file else None
    finally:
        os.close(descriptor)
    if key is None:
        raise KeyNotFoundError(
            f"Expected a key file written by `faceprivacy key new`, {path} is none or damaged. Put back a copy of it."
        )
    return key


def _parse(content: bytes, name: str) -> PrivacyKey | None:
    """Read the one key line of a file; None when anything else is in it."""
    # Returns instead of raising: an error from here would carry the content.
    try:
        lines = [line for line in content.decode("utf-8").splitlines() if line and not line.startswith("#")]
    except UnicodeDecodeError:
        return None
    found = _KEY_LINE.fullmatch(lines[0]) if len(lines) == 1 and len(content) <= MAX_KEY_FILE_BYTES else None
    if found is None:
        return None
    make = PrivacyKey.from_bytes if found[1] == _RAW_KEY_TAG else PrivacyKey.from_face_key
    return make(bytes.fromhex(found[2]), name)


def _write_file(name: str, folder: Path | None, make_line: Callable[[], str]) -> Path:
    """Write a new key file; the line is made where it is written, so that no error can carry it."""
    path = _path(name, key_folder() if folder is None else folder)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Expected to make the folder {path.parent}, got: {error.strerror}. Choose another.") from None
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
    except FileExistsError:
        raise InputError(f"Expected a new name, {path} is there already. It was not touched.") from None
    except OSError as error:
        raise InputError(f"Expected to write a key to {path.parent}, got: {error.strerror}. Choose another.") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write((_FILE_COMMENT + make_line() + "\n").encode("ascii"))
            stream.flush()
            os.fsync(descriptor)
    except BaseException as error:
        path.unlink(missing_ok=True)  # half a key is worse than none
        if isinstance(error, OSError):
            raise InputError(f"Expected to write a key to {path.parent}, got: {error.strerror}. Choose another.") from None
        raise
    return path
