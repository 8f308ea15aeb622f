"""Saved inversions on disk, sealed with a key or, by an explicit choice, as they are."""

from __future__ import annotations

from pathlib import Path

from ..embeddings.inversion import FaceInversion
from ..errors import InputError, InversionFormatError
from ..files import NewFile, write_file
from ..keyed.keys import PrivacyKey
from .contents import MAX_BYTES, SEALED, UNPROTECTED, from_bytes, to_bytes
from .sealed import is_sealed, seal_inversion, unseal_inversion
from .stored import StoredInversion, stored_part

SUFFIX = ".fpinv"


def write_inversion_file(
    path: Path,
    inversion: FaceInversion,
    key: PrivacyKey | None,
    *,
    unprotected: bool = False,
    picture_digest: str = "",
) -> None:
    """Write what brings the faces of an inversion back; an existing file is replaced at once or stays as it is.

    Args, raises: See `inversion_file`; InputError also where the folder cannot be written.
    """
    file = inversion_file(path, inversion, key, unprotected=unprotected, picture_digest=picture_digest)
    write_file(file.path, file.content, private=file.private)


def inversion_file(
    path: Path,
    inversion: FaceInversion,
    key: PrivacyKey | None,
    *,
    unprotected: bool = False,
    picture_digest: str = "",
) -> NewFile:
    """Return the file that brings the faces of an inversion back, to be written together with the picture.

    Args:
        path: The file, by custom NAME.fpinv.
        inversion: With tokens, noise map, placement and fingerprints.
        key: Seals the file.
        unprotected: Write without a key: whoever gets the file then has the faces.
        picture_digest: Of the protected picture, see `checks.picture_digest`; "" for none.

    Raises:
        InputError: Neither a key nor the choice to write without one, or both; the inversion lacks a part.
    """
    if (key is None) != unprotected:
        raise InputError(
            "Expected either a key or the explicit choice of an unprotected file, got "
            f"{'both' if unprotected else 'neither'}. Whoever has an unprotected inversion has the face; give a key."
        )
    stored = stored_part(inversion, picture_digest=picture_digest)
    content = to_bytes(stored, UNPROTECTED) if key is None else seal_inversion(to_bytes(stored, SEALED), key)
    if len(content) > MAX_BYTES:
        raise InputError(f"Expected an inversion of at most {MAX_BYTES >> 20} MiB, got {len(content)} bytes.")
    return NewFile(Path(path), content, private=True)


def read_inversion_file(path: Path, key: PrivacyKey | None = None) -> StoredInversion:
    """Read a saved inversion.

    Args:
        path: A file that `write_inversion_file` wrote.
        key: The key it was sealed with; not used for an unprotected file.

    Raises:
        InputError: There is no such file.
        InversionFormatError: It is no saved inversion, or a damaged one.
        InversionKeyError: It is sealed, and the key is missing or another one.
        InversionTamperedError: It was changed.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"Expected a saved inversion at {path}, got: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise InversionFormatError
    return from_bytes(unseal_inversion(data, key), SEALED) if is_sealed(data) else from_bytes(data, UNPROTECTED)
