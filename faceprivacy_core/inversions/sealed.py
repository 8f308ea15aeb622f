"""A stored inversion under a key.

    "FPIV1" 0 | u32 length, header | blob of `keyed.sealing`

The header is canonical JSON: format, version, nonce, and salt and cost for a passphrase. It names
itself an inversion, and the face key is derived from its bytes, so that neither it nor the blob can
ever be taken for a keyed face's. Who is in it, where, and which model draws it is inside the blob.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from ..errors import (
    FormatError,
    InversionFormatError,
    InversionKeyError,
    InversionTamperedError,
    TamperedError,
    WrongKeyError,
)
from ..keyed.derivation import KdfParameters, check_nonce, hex_to_bytes, new_nonce
from ..keyed.keys import PrivacyKey
from ..keyed.sealing import OVERHEAD_BYTES, seal, unseal
from .contents import FORMAT, MAX_BYTES, parse_fields

MAGIC = b"FPIV1\0"
VERSION = 1
MAX_HEADER_BYTES = 1024
AAD = b"faceprivacy saved inversion"
_FIELDS = {"format", "kdf", "nonce", "version"}


@dataclass(frozen=True, slots=True)
class SealedHeader:
    """What a reader must know before it has the key.

    Attributes:
        nonce: 16 random bytes, fresh for every file.
        kdf: Salt and cost for a passphrase; None for a raw key.
    """

    nonce: bytes
    kdf: KdfParameters | None

    def to_bytes(self) -> bytes:
        """Write the header as canonical JSON."""
        kdf = None if self.kdf is None else self.kdf.to_dict()
        fields = {"format": FORMAT, "kdf": kdf, "nonce": self.nonce.hex(), "version": VERSION}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> SealedHeader:
        """Read what `to_bytes` wrote, byte for byte, and nothing else; InversionFormatError otherwise."""
        try:
            fields = parse_fields(data)
            if set(fields) != _FIELDS:
                raise InversionFormatError
            nonce = hex_to_bytes(fields["nonce"])
            check_nonce(nonce)
            header = cls(nonce, None if fields["kdf"] is None else KdfParameters.from_dict(fields["kdf"]))
        except (ValueError, FormatError):
            raise InversionFormatError from None
        if header.to_bytes() != data:
            raise InversionFormatError
        return header


def seal_inversion(contents: bytes, key: PrivacyKey) -> bytes:
    """Encrypt the bytes of a stored inversion.

    Raises:
        InputError: The key is the released key of one face, or a weak passphrase.
    """
    key.check_can_seal()
    header = SealedHeader(new_nonce(), key.new_kdf())
    stored = header.to_bytes()
    blob = seal(key.face_key(header.kdf, header.nonce, stored), stored, contents, AAD)
    return MAGIC + struct.pack(">I", len(stored)) + stored + blob


def unseal_inversion(data: bytes, key: PrivacyKey | None) -> bytes:
    """Decrypt what `seal_inversion` wrote; nothing comes out before everything is verified.

    Raises:
        InversionFormatError: No sealed inversion, or of an unknown version.
        InversionKeyError: No key, another key, or a changed header.
        InversionTamperedError: The sealed part was changed.
    """
    header, stored, blob = _split(data)
    if key is None:
        raise InversionKeyError
    try:
        return unseal(key.face_key(header.kdf, header.nonce, stored), stored, blob, AAD)
    except WrongKeyError:
        raise InversionKeyError(key.name) from None
    except TamperedError:
        raise InversionTamperedError from None


def _split(data: bytes) -> tuple[SealedHeader, bytes, bytes]:
    """Return the header, its bytes, and the blob."""
    start = len(MAGIC) + 4
    if not is_sealed(data) or not start <= len(data) <= MAX_BYTES:
        raise InversionFormatError
    (length,) = struct.unpack_from(">I", data, len(MAGIC))
    if length > MAX_HEADER_BYTES or start + length + OVERHEAD_BYTES > len(data):
        raise InversionFormatError
    stored, blob = data[start : start + length], data[start + length :]
    return SealedHeader.from_bytes(stored), stored, blob


def check_sealed(data: bytes) -> None:
    """Make sure that bytes have the form of a sealed inversion; what is inside, the key alone can tell.

    Raises:
        InversionFormatError: They have another form.
    """
    _split(data)


def is_sealed(data: bytes) -> bool:
    """Tell a sealed file from an unprotected one by its first bytes."""
    return data.startswith(MAGIC)
