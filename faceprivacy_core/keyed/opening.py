"""Opens the sealed payloads of a picture, in the order of what checking costs.

Whoever made a file chose everything in it. So the key is tried first (one hash a face), then the
signature over the set of faces, and only then are pixels looked at and payloads decrypted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from ..errors import WrongKeyError
from .container import KeyedFaceRecord
from .derivation import FaceKey
from .header import FaceHeader
from .keys import PrivacyKey
from .picture import KeyedPicture
from .sealing import check_commitment, unseal, unseal_unmarked
from .signing import check_signature, set_digest, split_signature


@dataclass(frozen=True, slots=True, eq=False)
class OpenedFace:
    """A face and what was sealed for it.

    Attributes:
        header: Public parameters.
        key: Of this face.
        payload: What brings the original back.
    """

    header: FaceHeader
    key: FaceKey = field(repr=False)
    payload: bytes = field(repr=False)

    @property
    def is_signed(self) -> bool:
        """Whether the whole set of faces was found to be as it was sealed."""
        return bool(self.header.signer)


def open_faces(picture: KeyedPicture, key: PrivacyKey, which: Iterable[int] | None = None) -> dict[int, OpenedFace]:
    """Open the faces a key fits.

    Args:
        picture: Published picture, pixels untouched.
        key: A key, a passphrase, or the released key of one face.
        which: Numbers of the faces to open; each must open. None opens all the key fits.

    Returns:
        By number, in the order they were asked for.

    Raises:
        WrongKeyError: The key fits no face, or not one that was asked for.
        TamperedError: Pixels or payload of a face were changed, or faces dropped, added or moved.
        FormatError: A payload cannot be read.
    """
    records = picture.records()
    headers = [record.header.to_bytes() for record in records]
    keys: dict[int, FaceKey] = {}
    for number in range(len(records)) if which is None else which:
        try:
            keys[number] = _fitting_key(records[number], headers[number], key)
        except WrongKeyError:
            if which is not None:
                raise WrongKeyError(key.name) from None
    if not keys:
        raise WrongKeyError(key.name)
    digest = set_digest(headers)
    blobs = {number: _signed_blob(records[number], headers[number], digest) for number in keys}
    binding = cache(picture.binding)
    opened = {}
    for number, face_key in keys.items():
        header = records[number].header
        if header.decoy:
            payload = unseal_unmarked(face_key, headers[number], blobs[number])
        else:
            aad = binding(header.bind) if header.version == 1 else digest + binding(header.bind)
            payload = unseal(face_key, headers[number], blobs[number], aad)
        opened[number] = OpenedFace(header, face_key, payload)
    return opened


def _fitting_key(record: KeyedFaceRecord, header: bytes, key: PrivacyKey) -> FaceKey:
    face_key = key.face_key(record.header.kdf, record.header.nonce, header)
    if not record.header.decoy:
        blob = split_signature(record.blob)[0] if record.header.signer else record.blob
        check_commitment(face_key, header, blob)
    return face_key


def _signed_blob(record: KeyedFaceRecord, header: bytes, digest: bytes) -> bytes:
    """Return what `sealing` reads, after its signature was checked where there is one."""
    if not record.header.signer:
        return record.blob
    blob, signature = split_signature(record.blob)
    check_signature(record.header.signer, header, blob, signature, digest)
    return blob
