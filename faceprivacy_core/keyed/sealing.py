"""Authenticated encryption of a face's payload, and its unmarked variant.

    blob = commitment (32) | nonce (12) | ChaCha20-Poly1305 ciphertext and tag (16)

ChaCha20-Poly1305 alone does not commit to its key: one ciphertext can be made that opens under
two. The commitment, HMAC-SHA256 under a key of its own, closes that, and tells a wrong key from
a changed blob.
"""

from __future__ import annotations

import hmac
import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from ..errors import FormatError, InputError, TamperedError, WrongKeyError
from .derivation import FaceKey

COMMITMENT_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = COMMITMENT_BYTES + IV_BYTES + TAG_BYTES
MAX_BLOB_BYTES = 64 * 2**20


def seal(key: FaceKey, header: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt a payload so that any change to it, the header or the associated data is noticed.

    Args:
        key: Of this face, derived with this header.
        header: The header's bytes as stored.
        plaintext: At most 64 MiB with the overhead of 60 bytes.
        aad: What the payload is bound to, for example a hash of the picture; not stored.

    Raises:
        InputError: The plaintext is too long.
    """
    _check_length(len(plaintext) + OVERHEAD_BYTES)
    nonce = secrets.token_bytes(IV_BYTES)
    sealed = ChaCha20Poly1305(key.subkey("enc")).encrypt(nonce, plaintext, _associated_data(header, aad))
    return _commitment(key, header) + nonce + sealed


def unseal(key: FaceKey, header: bytes, blob: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal` wrote; nothing comes out before everything is verified.

    Raises:
        FormatError: The blob is shorter than the overhead, or longer than 64 MiB.
        WrongKeyError: The key, or the header it was derived with, is another one.
        TamperedError: Blob or associated data were changed.
    """
    check_commitment(key, header, blob)
    nonce, sealed = blob[COMMITMENT_BYTES : COMMITMENT_BYTES + IV_BYTES], blob[COMMITMENT_BYTES + IV_BYTES :]
    try:
        return ChaCha20Poly1305(key.subkey("enc")).decrypt(nonce, sealed, _associated_data(header, aad))
    except InvalidTag:
        raise TamperedError from None


def check_commitment(key: FaceKey, header: bytes, blob: bytes) -> None:
    """Tell, at the cost of one hash, whether a key is the one that sealed a blob under this header.

    Raises:
        FormatError: The blob is shorter than the overhead, or longer than 64 MiB.
        WrongKeyError: The key, or the header it was derived with, is another one.
    """
    if not OVERHEAD_BYTES <= len(blob) <= MAX_BLOB_BYTES:
        raise FormatError
    if not hmac.compare_digest(_commitment(key, header), blob[:COMMITMENT_BYTES]):
        raise WrongKeyError


def seal_unmarked(key: FaceKey, header: bytes, plaintext: bytes) -> bytes:
    """Encrypt without commitment and tag, so that no key can be told from another.

    Changes are not noticed, and every key yields some bytes. A key and header may be used for
    one plaintext only; that holds because every face has a nonce of its own.

    Returns:
        As many bytes as the plaintext has.

    Raises:
        InputError: The plaintext is longer than 64 MiB.
    """
    _check_length(len(plaintext))
    return _apply_keystream(key, header, plaintext)


def unseal_unmarked(key: FaceKey, header: bytes, blob: bytes) -> bytes:
    """Undo `seal_unmarked`; a wrong key gives bytes that look random.

    Raises:
        FormatError: The blob is longer than 64 MiB.
    """
    if len(blob) > MAX_BLOB_BYTES:
        raise FormatError
    return _apply_keystream(key, header, blob)


def _check_length(length: int) -> None:
    if length > MAX_BLOB_BYTES:
        raise InputError(f"Expected a payload of at most {MAX_BLOB_BYTES >> 20} MiB, got {length} bytes. Use a smaller crop.")


def _commitment(key: FaceKey, header: bytes) -> bytes:
    return hmac.digest(key.subkey("commit"), b"commit" + header, "sha256")


def _associated_data(header: bytes, aad: bytes) -> bytes:
    # Lengths first, so that no byte can move from one part to the other.
    return struct.pack(">QQ", len(header), len(aad)) + header + aad


def _apply_keystream(key: FaceKey, header: bytes, data: bytes) -> bytes:
    # A released face key is the same for every header, hence the header's part in the stream's key.
    # That key serves one stream, so counter and nonce may start at zero.
    stream_key = hmac.digest(key.subkey("decoy"), b"decoy" + header, "sha256")
    return Cipher(ChaCha20(stream_key, bytes(16)), mode=None).encryptor().update(data)
