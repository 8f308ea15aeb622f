"""Brings the original faces of a keyed picture back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError, ModelMismatchError
from ..protocols import Progress
from .derivation import FaceKey
from .header import Bind, FaceHeader
from .keys import PrivacyKey
from .models import KeyedModel
from .modes import MODES
from .modes.mode import ClosedFace
from .opening import open_faces
from .picture import KeyedPicture, Picture


@dataclass(frozen=True, eq=False)
class DecryptResult:
    """A picture with its originals back.

    Attributes:
        pixels: (H, W, 3) uint8.
        opened: Numbers of the faces that were opened, from 0.
        unbound: Those of them whose payload is bound to no pixels.
        unsigned: Those of them that do not vouch for the set of faces: of version 1, or with a decoy.
        free_alpha: Those of them that are bound to the picture's pixels and not to its transparency: of versions 1 and 2.
    """

    pixels: Picture
    opened: tuple[int, ...]
    unbound: tuple[int, ...]
    unsigned: tuple[int, ...]
    free_alpha: tuple[int, ...] = ()

    def describe(self, count: int) -> str:
        """Say how many of a picture's faces were opened, and what a change of the picture may have done to them unnoticed."""
        text = f"opened {len(self.opened)} of {count} faces: {', '.join(map(str, self.opened))}"
        doubts = (
            (self.unbound, "not bound to the picture's pixels, so that a change of them goes unnoticed"),
            (self.free_alpha, "not bound to the picture's transparency, so that a change of it goes unnoticed"),
            (self.unsigned, "not signed together, so that faces may have been dropped, added or replaced unnoticed"),
        )
        return text + "".join(f" ({doubt}: {', '.join(map(str, numbers))})" for numbers, doubt in doubts if numbers)


def decrypt_faces(
    picture: KeyedPicture,
    key: PrivacyKey,
    model: KeyedModel | None = None,
    *,
    which: Sequence[int] | None = None,
    onto: Picture | None = None,
    progress: Progress | None = None,
) -> DecryptResult:
    """Open the faces a key fits.

    Args:
        picture: The published picture, pixels untouched.
        key: A key, a passphrase, or the released key of one face.
        model: Needed by every mode but `exact`.
        which: Numbers of the faces to open, from 0; each must open. None opens all the key fits.
        onto: (H, W, 3) picture to put the faces into, of which others may be open already; the
            published one if None.
        progress: Called after every step of a diffusion mode.

    Returns:
        The picture; outside the opened faces every byte is that of `onto`.

    Raises:
        WrongKeyError: The key fits no face, or not one that was asked for.
        TamperedError: Pixels or payload of a face were changed, or faces dropped, added or moved.
        FormatError: A payload cannot be read.
        ModelMismatchError: A face needs another model, VAE or prompt. Raised before any of them runs.
        InputError: No model where one is needed, or no such face.
    """
    if which is not None and not set(which) <= set(range(len(picture.faces))):
        raise InputError(f"Expected numbers of faces from 0 to {len(picture.faces) - 1}, got {sorted(set(which))}.")
    faces = open_faces(picture, key, which)
    for face in faces.values():
        check_model(face.header, model)
    pixels = picture.pixels if onto is None else onto
    if pixels.shape != picture.pixels.shape:
        raise InputError(f"Expected a picture of shape {picture.pixels.shape} to put the faces into, got {pixels.shape}.")
    for number, face in faces.items():
        closed = ClosedFace(picture, number, face.key, face.payload)
        pixels = MODES[face.header.mode].restore(closed, pixels, model, progress)
    unbound = tuple(number for number, face in faces.items() if face.header.bind is Bind.NONE)
    unsigned = tuple(number for number, face in faces.items() if not face.is_signed)
    is_free = picture.alpha is not None and not picture.binds_alpha
    free_alpha = tuple(number for number in faces if number not in unbound) if is_free else ()
    return DecryptResult(pixels, tuple(faces), unbound, unsigned, free_alpha)


def face_key_of(picture: KeyedPicture, number: int, key: PrivacyKey) -> FaceKey:
    """Return the key of one face, after it has opened that face.

    Raises:
        WrongKeyError: The key does not open it.
        TamperedError: The picture was changed.
    """
    return open_faces(picture, key, [number])[number].key


def check_model(header: FaceHeader, model: KeyedModel | None) -> None:
    """Refuse a model that is not the one a face was encrypted with.

    Raises:
        InputError: None was given where one is needed.
        ModelMismatchError: Another model, VAE or prompt.
    """
    mode = MODES[header.mode]
    if not mode.needs_model:
        return
    if model is None:
        raise InputError(
            f"Expected a model with its VAE for a face in mode {header.mode.value}, got none. Use those of the encryption."
        )
    if not mode.fits(header, model):
        raise ModelMismatchError


def needs_model(picture: KeyedPicture) -> bool:
    """Say whether any face of a picture comes back by a model only."""
    return any(MODES[header.mode].needs_model for header in picture.headers)
