"""Keys by name: opaque handles, and where they are kept.

A key is named everywhere and shown nowhere. What was typed into a name field may be a
passphrase, so no message repeats it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from functools import lru_cache
from pathlib import Path

import platformdirs

from ..errors import InputError, KeyNotFoundError, KeyUseError, WrongKeyError
from .derivation import (
    KEY_BYTES,
    FaceKey,
    KdfParameters,
    Opaque,
    SigningKey,
    check_key_bytes,
    check_nonce,
    derive_face_key,
    derive_root,
    derive_signing_key,
    hkdf_sha256,
)
from .key_files import KEY_SUFFIX, read_key_text, replace_key_text, write_key_text
from .key_names import HEX_KEY, check_name, check_own_variable, is_name, variable_of
from .key_text import KeyText
from .passphrases import weakness_of

FOLDER_VARIABLE = "FACEPRIVACY_KEY_DIR"
SERVER_VARIABLE = "FACEPRIVACY_DECRYPT_IN_SERVER"
"""Names, separated by commas, of the keys in the environment that a server may decrypt with."""
PASSPHRASE_ID = "passphrase"  # noqa: S105 - a word shown instead of an id, not a secret
KEPT_ROOTS = 16
"""Passphrase hashes a handle remembers, one for each salt it met last."""
ONLY_OPENS = "Expected a key of your own, got the released key of one face, which only opens. Make a new key."

GetRoot = Callable[[KdfParameters | None], bytes]


class KeyKind(str, Enum):
    """What a handle holds."""

    RAW = "raw key"
    PASSPHRASE = "passphrase"  # noqa: S105 - a kind, not a secret
    FACE = "key of one face"


class PrivacyKey(Opaque):
    """Handle on a key. Shows its name and public id, never the key.

    Made by `from_bytes`, `from_passphrase` and `from_face_key`.
    """

    __slots__ = ("__header_digest", "__in_server", "__kind", "__name", "__public_id", "__root", "__weakness")

    def __init__(
        self,
        kind: KeyKind,
        name: str,
        public_id: str,
        root: GetRoot,
        *,
        header_digest: bytes | None = None,
        weakness: str = "",
        decrypts_in_server: bool = False,
    ) -> None:
        if name:
            check_name(name)
        self.__kind, self.__name, self.__public_id, self.__root = kind, name, public_id, root
        self.__header_digest, self.__weakness, self.__in_server = header_digest, weakness, decrypts_in_server

    @classmethod
    def from_bytes(cls, raw: bytes, name: str = "", *, decrypts_in_server: bool = False) -> PrivacyKey:
        """Make a handle on 32 random bytes; for `decrypts_in_server` see the property.

        Raises:
            InputError: Not 32 bytes, or not a name.
        """
        check_key_bytes(raw)
        return cls(KeyKind.RAW, name, _public_id(raw), lambda _: raw, decrypts_in_server=decrypts_in_server)

    @classmethod
    def from_passphrase(cls, text: str, name: str = "", *, decrypts_in_server: bool = False) -> PrivacyKey:
        """Make a handle on a passphrase; spaces at its ends count.

        Args:
            text: Brought to Unicode form NFKC, so that it is the same from every keyboard.
            name: Under which it is known.
            decrypts_in_server: See the property.

        Raises:
            InputError: Empty, not valid Unicode, or not a name.
        """
        if not isinstance(text, str) or not text or _has_surrogates(text):
            raise InputError("Expected a passphrase of valid text, got none or something else.")
        normal = unicodedata.normalize("NFKC", text)
        root, weakness = _remembered_root(normal.encode("utf-8")), weakness_of(normal)
        # No id: one made from a passphrase would let anyone test guesses.
        return cls(KeyKind.PASSPHRASE, name, PASSPHRASE_ID, root, weakness=weakness, decrypts_in_server=decrypts_in_server)

    @classmethod
    def from_face_key(
        cls, raw: bytes, name: str = "", header_digest: bytes | None = None, *, decrypts_in_server: bool = False
    ) -> PrivacyKey:
        """Make a handle on the released key of one face; it opens that face and no other.

        Not for encrypting: its face key is always the same, and it cannot sign.

        Args:
            raw: 32 bytes.
            name: Under which it is known.
            header_digest: SHA-256 of the face's header, so that the key takes no other one for it;
                None for a key that was released before headers were kept with it.
            decrypts_in_server: See the property.

        Raises:
            InputError: Not 32 bytes, or not a name.
        """
        check_key_bytes(raw)
        return cls(
            KeyKind.FACE, name, f"face-{_public_id(raw)}", lambda _: raw, header_digest=header_digest,
            decrypts_in_server=decrypts_in_server,
        )  # fmt: skip

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

    @property
    def decrypts_in_server(self) -> bool:
        """Whether a server, which others may reach, may bring faces back with this key; its owner says so."""
        return self.__in_server

    def check_can_seal(self) -> None:
        """Make sure that something may be sealed with this key.

        Raises:
            InputError: It is the released key of one face, or a passphrase that is too weak.
        """
        if self.kind is KeyKind.FACE or self.__weakness:
            raise InputError(self.__weakness or ONLY_OPENS)

    def check_server_use(self) -> None:
        """Make sure that a server may decrypt with this key.

        Raises:
            KeyUseError: Its owner has not said so.
        """
        if not self.decrypts_in_server:
            raise KeyUseError(self.name)

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
                the other way round; or this key was released for another header.
            InputError: The nonce has another length.
        """
        check_nonce(nonce)
        if self.kind is KeyKind.FACE:
            if self.__header_digest not in (None, hashlib.sha256(header).digest()):
                raise WrongKeyError
            return FaceKey(self.__root(None))
        self._check_kind(kdf)
        return derive_face_key(self.__root(kdf), nonce, header)

    def signing_key(self, kdf: KdfParameters | None, nonce: bytes) -> SigningKey:
        """Derive the key that signs what is sealed for one face. Arguments and errors as for `face_key`.

        Raises:
            InputError: Also: this is the released key of one face, which only opens.
        """
        if self.kind is KeyKind.FACE:
            raise InputError(ONLY_OPENS)
        check_nonce(nonce)
        self._check_kind(kdf)
        return derive_signing_key(self.__root(kdf), nonce)

    def _check_kind(self, kdf: KdfParameters | None) -> None:
        if (kdf is not None) != (self.kind is KeyKind.PASSPHRASE):
            raise WrongKeyError


def load_key(name: str, *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> PrivacyKey:
    """Get a key by its name: from the environment, else from the folder of keys.

    The variable is FACEPRIVACY_KEY_ and the name in capitals; a name in small letters with '_' alone has
    one. A value of 64 hexadecimal digits is a raw key, any other a passphrase. FACEPRIVACY_DECRYPT_IN_SERVER
    names those of these keys that a server may decrypt with.

    Args:
        name: 1 to 64 letters, digits, '-' and '_'.
        folder: Folder of key files; None means `key_folder(environ)`.
        environ: Environment variables.

    Raises:
        InputError: Not a name, or a passphrase that is not valid text.
        KeyNotFoundError: No such key, or one that cannot be used; a variable that another spelling of the
            name has.
    """
    variable = variable_of(name)
    if variable not in environ:
        return _load_file(_path(name, key_folder(environ) if folder is None else folder), name)
    check_own_variable(name)
    allowed = name in environ.get(SERVER_VARIABLE, "").replace(" ", "").split(",")
    if not environ[variable]:
        raise KeyNotFoundError(f"Expected a key in the environment variable {variable}, it is empty. Set or remove it.")
    if HEX_KEY.fullmatch(environ[variable]):
        return PrivacyKey.from_bytes(bytes.fromhex(environ[variable]), name, decrypts_in_server=allowed)
    return PrivacyKey.from_passphrase(environ[variable], name, decrypts_in_server=allowed)


def key_place(name: str, *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Say where `load_key` takes a key from, whether or not there is one."""
    variable = variable_of(name)
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
    return variable_of(name) in environ or os.path.lexists(_path(name, key_folder(environ) if folder is None else folder))


def list_keys(folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of the key files in a folder, sorted; none when there is no folder."""
    folder = key_folder() if folder is None else folder
    names = [path.stem for path in folder.glob("*" + KEY_SUFFIX)]
    return tuple(sorted(name for name in names if is_name(name)))


def create_key(name: str, folder: Path | None = None, *, decrypts_in_server: bool = False) -> Path:
    """Make a new random key and write it to a file only its owner can read.

    Args:
        name: 1 to 64 letters, digits, '-' and '_'.
        folder: None means `key_folder()`.
        decrypts_in_server: Whether a server may decrypt with it; whoever reaches the server then can.

    Raises:
        InputError: Not a name, a key of this name or of one that differs in capitals, '-' and '_' alone
            exists, or the folder cannot be written.
    """
    return _write_file(name, folder, lambda: KeyText(secrets.token_bytes(KEY_BYTES), False, decrypts_in_server))


def save_face_key(
    name: str, face_key: FaceKey, header: bytes, folder: Path | None = None, *, decrypts_in_server: bool = False
) -> Path:
    """Write the key of one face to a file, so that this face alone can be released.

    Args:
        name, folder, decrypts_in_server: As for `create_key`.
        face_key: Of the face.
        header: The header's bytes as stored; the key opens no other.

    Raises:
        InputError: As for `create_key`.
    """
    digest = hashlib.sha256(header).digest()
    return _write_file(name, folder, lambda: KeyText(face_key.reveal(), True, decrypts_in_server, digest))


def set_server_use(name: str, allowed: bool, folder: Path | None = None) -> None:
    """Say in a key file whether a server may decrypt with the key.

    Raises:
        InputError: Not a name, or the folder cannot be written.
        KeyNotFoundError: There is no such file, or one that cannot be used.
    """
    path = _path(name, key_folder() if folder is None else folder)
    replace_key_text(path, replace(read_key_text(path), decrypts_in_server=allowed))


def _public_id(raw: bytes) -> str:
    # Its info starts unlike that of every other key, so the id says nothing about them.
    return hkdf_sha256(raw, b"", b"faceprivacy/public-id/v1", 4).hex()


def _remembered_root(passphrase: bytes) -> Callable[[KdfParameters], bytes]:
    return lru_cache(KEPT_ROOTS)(lambda kdf: derive_root(passphrase, kdf))


def _has_surrogates(text: str) -> bool:
    # Encoding would fail with an error that carries the text.
    return any("\ud800" <= character <= "\udfff" for character in text)


def _path(name: str, folder: Path) -> Path:
    check_name(name)
    return Path(folder) / (name + KEY_SUFFIX)


def _load_file(path: Path, name: str) -> PrivacyKey:
    found = read_key_text(path)
    if found.is_face_key:
        return PrivacyKey.from_face_key(found.raw, name, found.header_digest, decrypts_in_server=found.decrypts_in_server)
    return PrivacyKey.from_bytes(found.raw, name, decrypts_in_server=found.decrypts_in_server)


def _write_file(name: str, folder: Path | None, make_text: Callable[[], KeyText]) -> Path:
    """Write a new key file.

    A name that another one differs from in capitals, '-' and '_' alone has the same variable, and on some
    systems the same file.
    """
    path = _path(name, key_folder() if folder is None else folder)
    if any(variable_of(other) == variable_of(name) and other != name for other in list_keys(path.parent)):
        raise InputError(
            f"Expected a name that differs from those of other keys in more than capitals, '-' and '_', {path.parent} holds "
            "one that is nearly the same. Choose another; nothing was touched."
        )
    write_key_text(path, make_text)
    return path
