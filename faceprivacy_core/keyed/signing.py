"""Who sealed a set of faces: signatures that the released key of one face cannot make.

    sealed   = blob of `sealing` | signature (64)
    signed   = "faceprivacy/v2/seal" | set (32) | SHA256(header) | SHA256(blob)
    set      = SHA256("faceprivacy/v2/set" | u16 count | count times: u32 length, header)

Numbers are big-endian. Every face signs the headers of all of them, in order, so none can be
dropped, added, doubled or moved. The header names the key that a signature is checked under, and
the face key is derived from the header, so a face that a key opens names a signer of that key's owner.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import FormatError, TamperedError
from .derivation import SigningKey

SIGNATURE_BYTES = 64
_SET, _SEAL = b"faceprivacy/v2/set", b"faceprivacy/v2/seal"


def set_digest(headers: Sequence[bytes]) -> bytes:
    """Hash the headers of all faces of a picture, as stored and in order: 32 bytes."""
    parts = [_SET, struct.pack(">H", len(headers))]
    for header in headers:
        parts += [struct.pack(">I", len(header)), header]
    return hashlib.sha256(b"".join(parts)).digest()


def add_signature(key: SigningKey, header: bytes, blob: bytes, digest: bytes) -> bytes:
    """Append the signature of a sealed payload.

    Args:
        key: Of this face.
        header: The header's bytes as stored.
        blob: As `sealing.seal` made it.
        digest: Of the set, see `set_digest`.
    """
    return blob + key.sign(_message(header, blob, digest))


def split_signature(signed: bytes) -> tuple[bytes, bytes]:
    """Take a signed blob apart: what `sealing` reads, and the signature.

    Raises:
        FormatError: It is too short.
    """
    if len(signed) < SIGNATURE_BYTES:
        raise FormatError
    return signed[:-SIGNATURE_BYTES], signed[-SIGNATURE_BYTES:]


def check_signature(public: bytes, header: bytes, blob: bytes, signature: bytes, digest: bytes) -> None:
    """Make sure that the owner of the key sealed this blob, and as part of this set.

    Args:
        public: Key from the header, which the face's key has been found to fit.
        header, blob, digest: As for `add_signature`.
        signature: 64 bytes.

    Raises:
        TamperedError: Somebody else did, or faces were dropped, added or moved.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _message(header, blob, digest))
    except InvalidSignature:
        raise TamperedError from None


def _message(header: bytes, blob: bytes, digest: bytes) -> bytes:
    return _SEAL + digest + hashlib.sha256(header).digest() + hashlib.sha256(blob).digest()
