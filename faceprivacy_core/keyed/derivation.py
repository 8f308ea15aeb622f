"""From a key or a passphrase to the keys of one face.

    root     = raw key, or scrypt(passphrase, salt)
    face key = HKDF(root, salt=nonce, info="faceprivacy/v1/image" + SHA256(header))
    subkey   = HKDF(face key, salt="", info="faceprivacy/v1/" + purpose)
    signing  = HKDF(root, salt=nonce, info="faceprivacy/v2/sign"), an Ed25519 key

The header's hash is in the derivation, so a change to any byte of it gives unrelated keys. The key
that signs is derived beside the face key and not from it: who is given a face key can read, not write.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ..errors import FormatError, InputError

KEY_BYTES = 32
NONCE_BYTES = 16
PUBLIC_KEY_BYTES = 32
DEFAULT_N = 2**17
"""With r = 8 and p = 1 the cost OWASP's password storage cheat sheet names for scrypt: 128 MiB, about half a second."""

_N_RANGE = (2**14, 2**18)
_R_RANGE = (1, 32)
_P_RANGE = (1, 16)
_SALT_BYTES_RANGE = (16, 64)
_MAX_COST_BYTES = 2**28
_CONTEXT = b"faceprivacy/v1/"
_SIGNING_CONTEXT = b"faceprivacy/v2/sign"


class Opaque:
    """Base of handles on secrets: what prints, copies or stores objects learns nothing from them.

    Two handles are equal only when they are the same object. Subclasses keep what is secret
    inside a function, so that a walk over their attributes does not meet it either. This
    guards against accidents; code in the same process that wants the secret gets it.
    """

    __slots__ = ("__weakref__",)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __copy__(self) -> Opaque:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Opaque:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A key cannot be pickled or stored.")

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key cannot be pickled or stored.")

    def __getstate__(self) -> NoReturn:
        raise TypeError("A key cannot be pickled or stored.")


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """Salt and cost of scrypt. Public: they travel in the header.

    A hostile header must not cost a reader gigabytes or minutes, so the ranges are checked
    when the object is made, before anything is hashed. The most that is allowed is twice the default.

    Attributes:
        salt: 16 to 64 bytes.
        n: Cost, a power of two from 2^14 to 2^18.
        r: Block size, 1 to 32.
        p: Parallelisation, 1 to 16; 128 n r p bytes may not exceed 256 MiB.

    Raises:
        FormatError: A value is of another type or out of its range.
    """

    salt: bytes
    n: int = DEFAULT_N
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        numbers = ((self.n, _N_RANGE), (self.r, _R_RANGE), (self.p, _P_RANGE))
        if any(type(number) is not int or not low <= number <= high for number, (low, high) in numbers):
            raise FormatError
        if self.n & (self.n - 1) or 128 * self.n * self.r * self.p > _MAX_COST_BYTES:
            raise FormatError
        if type(self.salt) is not bytes or not _SALT_BYTES_RANGE[0] <= len(self.salt) <= _SALT_BYTES_RANGE[1]:
            raise FormatError

    @classmethod
    def new(cls) -> KdfParameters:
        """Return the default cost with a fresh salt of 16 random bytes."""
        return cls(secrets.token_bytes(_SALT_BYTES_RANGE[0]))

    def to_dict(self) -> dict[str, int | str]:
        """Return the parameters for JSON; the salt in hexadecimal."""
        return {"n": self.n, "p": self.p, "r": self.r, "salt": self.salt.hex()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KdfParameters:
        """Read what `to_dict` wrote, and nothing else.

        Raises:
            FormatError: A field is missing, unknown, of another type or out of its range.
        """
        if not isinstance(data, Mapping) or set(data) != {"n", "p", "r", "salt"}:
            raise FormatError
        return cls(hex_to_bytes(data["salt"]), data["n"], data["r"], data["p"])


def hex_to_bytes(text: Any) -> bytes:
    """Read lowercase hexadecimal digits; FormatError for anything else."""
    if type(text) is not str or len(text) % 2 or not set(text) <= set("0123456789abcdef"):
        raise FormatError
    return bytes.fromhex(text)


class FaceKey(Opaque):
    """The key of one face. It opens that face and nothing else.

    Args:
        raw: 32 bytes.

    Raises:
        InputError: Another type or length.
    """

    __slots__ = ("__reveal",)

    def __init__(self, raw: bytes) -> None:
        check_key_bytes(raw)
        self.__reveal = lambda: raw

    def subkey(self, purpose: str) -> bytes:
        """Derive 32 bytes for one purpose; different purposes give unrelated keys.

        Args:
            purpose: ASCII word, for example "enc", "commit", "rot".
        """
        return hkdf_sha256(self.__reveal(), b"", _CONTEXT + purpose.encode("ascii"))

    def reveal(self) -> bytes:
        """Return the 32 bytes themselves: for releasing this one face through a key file only."""
        return self.__reveal()


class SigningKey(Opaque):
    """Signs what is sealed for one face. No face key leads to it.

    Args:
        seed: 32 bytes.

    Raises:
        InputError: Another type or length.

    Attributes:
        public: 32 bytes, under which signatures are checked; it may be known.

    Source: Ed25519, RFC 8032.
    """

    __slots__ = ("__sign", "public")

    def __init__(self, seed: bytes) -> None:
        check_key_bytes(seed)
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = key.public_key().public_bytes_raw()
        self.__sign = lambda message: key.sign(message)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self.__sign(message)


def check_key_bytes(raw: Any) -> None:
    """Make sure that a raw key is 32 bytes; InputError otherwise, which does not show them."""
    if type(raw) is not bytes or len(raw) != KEY_BYTES:
        raise InputError(f"Expected a raw key of {KEY_BYTES} bytes, got another type or length.")


def check_nonce(nonce: Any) -> None:
    """Make sure that a nonce is 16 bytes; InputError otherwise."""
    if type(nonce) is not bytes or len(nonce) != NONCE_BYTES:
        raise InputError(f"Expected a nonce of {NONCE_BYTES} bytes, got another type or length.")


def new_nonce() -> bytes:
    """Draw the 16-byte nonce of one face from the system's generator; no seed reaches it."""
    return secrets.token_bytes(NONCE_BYTES)


def derive_face_key(root: bytes, nonce: bytes, header: bytes) -> FaceKey:
    """Derive the key of one face.

    Args:
        root: 32 bytes, a raw key or the result of `derive_root`.
        nonce: 16 bytes, drawn anew for every face.
        header: The header's bytes as stored.

    Raises:
        InputError: Root or nonce has another length.

    Source: HKDF, RFC 5869.
    """
    check_key_bytes(root)
    check_nonce(nonce)
    return FaceKey(hkdf_sha256(root, nonce, _CONTEXT + b"image" + hashlib.sha256(header).digest()))


def derive_signing_key(root: bytes, nonce: bytes) -> SigningKey:
    """Derive the key that signs what is sealed for one face.

    Args:
        root: 32 bytes, a raw key or the result of `derive_root`.
        nonce: 16 bytes, of the face.

    Raises:
        InputError: Root or nonce has another length.
    """
    check_key_bytes(root)
    check_nonce(nonce)
    return SigningKey(hkdf_sha256(root, nonce, _SIGNING_CONTEXT))


def derive_root(passphrase: bytes, kdf: KdfParameters) -> bytes:
    """Hash a passphrase into 32 bytes, slowly on purpose.

    Args:
        passphrase: As `PrivacyKey.from_passphrase` normalised it.
        kdf: Salt and cost; needs about 128 n r bytes of memory.

    Source: scrypt, RFC 7914.
    """
    return Scrypt(salt=kdf.salt, length=KEY_BYTES, n=kdf.n, r=kdf.r, p=kdf.p).derive(passphrase)


def hkdf_sha256(ikm: bytes, salt: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """Extract and expand with HKDF-SHA256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(ikm)
