"""Brings the original faces of a keyed picture back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, ModelMismatchError
from ..pixels import to_pixels, to_tensor
from ..protocols import Progress
from .covers import background_on, public_noise
from .decoder_inversion import invert_decoder
from .derivation import FaceKey
from .fill import fill_from_surroundings
from .header import Bind, FaceHeader, RecoveryMode
from .keys import PrivacyKey
from .models import KeyedModel
from .opening import open_faces
from .payloads import read_coarse_moments, read_latent, read_moments, read_packed_pixels, read_pixels, restore_pixels
from .picture import KeyedPicture, Picture, region_of
from .regions import Claim, Region, claimed_pixels, cut_crop, lay_crop, paste
from .transports import decrypt_noise, flip_signs

REFINEMENTS = 120
"""Iterations that find the latent behind a published face, in mode `image`."""


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
        claim = picture.claims[number]
        if face.header.mode is RecoveryMode.EXACT:
            read = read_pixels if face.header.version > 1 else read_packed_pixels
            pixels = restore_pixels(pixels, claim, read(face.payload, claim))
            continue
        assert model is not None  # noqa: S101 - check_model has seen to it
        crop = recover_crop(picture, number, face.key, face.payload, model, progress)
        pixels = paste(pixels, lay_crop(crop, region_of(face.header), claim), claim, soft=False)
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
    if header.mode is RecoveryMode.EXACT:
        return
    if model is None:
        raise InputError(f"Expected a MODEL and VAE for a face in mode {header.mode.value}, got none. Connect them.")
    if header.mode is RecoveryMode.LATENT:
        fits = header.model == model.vae_fingerprint()
    else:
        fits = header.model == model.model_fingerprint() and header.condition == model.condition_fingerprint()
    if not fits:
        raise ModelMismatchError


def recover_crop(
    picture: KeyedPicture,
    number: int,
    face_key: FaceKey,
    payload: bytes,
    model: KeyedModel,
    progress: Progress | None = None,
) -> Tensor:
    """Compute the original crop of one face from its opened payload, (1, 3, S, S) in [0, 1]."""
    header = picture.headers[number]
    region = region_of(header)
    if header.mode is RecoveryMode.LATENT:
        return model.decode(read_latent(payload, *region.cells.shape)).detach()
    if header.mode is RecoveryMode.SIGNFLIP:
        visible = model.encode(cut_crop(to_tensor(picture.pixels), region))
        return model.decode(flip_signs(model, visible, region.latent_mask(), face_key, header.steps, progress)).detach()
    moments = [read_coarse_moments(payload)] if header.decoy else read_moments(payload)
    claims = picture.claims
    filled = remove_faces(picture.pixels, claims)
    surroundings = model.encode(cut_crop(filled, region))
    visible = _visible_latent(picture.pixels, filled, region, claims[number], surroundings, model)
    noise = public_noise([header.nonce], tuple(surroundings.shape[1:]))
    background = background_on(model.device, surroundings, noise, region.latent_mask())
    latent = decrypt_noise(model, visible, background, face_key, moments, header.steps, header.iterations, progress)
    return model.decode(latent).detach()


def remove_faces(pixels: Picture, claims: Sequence[Claim]) -> Tensor:
    """Fill every claim from its surroundings, (1, 3, H, W) in [0, 1]."""
    hidden = claimed_pixels(claims, *pixels.shape[:2]).astype(np.float32)
    return fill_from_surroundings(to_tensor(pixels), torch.from_numpy(hidden)[None, None])


def _visible_latent(
    pixels: Picture, filled: Tensor, region: Region, claim: Claim, surroundings: Tensor, model: KeyedModel
) -> Tensor:
    """Find the latent of the published face: the encoder's guess, refined against the pixels.

    On the rim a pixel is a blend with the filled picture, and counts the less the more of that is in it. (Until version 0.1.0
    it was blended with the original, which is not known; the filled picture stands for it.)
    """
    mask = region.latent_mask()
    picture = to_tensor(pixels)
    guess = mask * model.encode(cut_crop(picture, region)) + (1.0 - mask) * surroundings
    weights = torch.from_numpy(claim.with_steep_rim().weights).float()
    seen, behind = (image[0, :, claim.rows, claim.columns] for image in (picture, to_tensor(to_pixels(filled))))

    def render(latent: Tensor) -> Tensor:
        return behind + weights * (lay_crop(model.decode(latent), region, claim) - behind)

    return invert_decoder(render, seen, weights**2, guess, mask, steps=REFINEMENTS)
