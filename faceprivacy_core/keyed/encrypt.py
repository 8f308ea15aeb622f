"""Puts other faces over the chosen ones, such that a key brings the originals back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, NoFaceError, NumericalError
from ..pixels import to_tensor
from ..protocols import Progress
from ..types import Face, Faces
from .derivation import KdfParameters, SigningKey, new_nonce
from .header import Bind, Cover, FaceHeader
from .keys import PrivacyKey
from .layout import Layout, lay_out
from .mode_names import RecoveryMode
from .models import KeyedModel
from .modes import MODES
from .modes.mode import NewFace
from .picture import KeyedPicture, Picture, UnsealedFace
from .regions import Claim, lay_crop, paste
from .self_check import FaceReport, check_recovery

CheckCovers = Callable[[Picture, Picture, Sequence[Face]], list[str | None]]
DEFAULT_CROP_SIZE = 512
"""Side of the crops where no model says one."""

MIN_COVER_DIFFERENCE = 2.0
"""Mean change over a face, in 8-bit steps, below which a given cover hides nothing."""


@dataclass(frozen=True)
class EncryptSettings:
    """How faces are encrypted.

    Attributes:
        mode: How the original comes back.
        steps: Sampling steps over the whole noise schedule.
        iterations: Fixed-point iterations of the inversion, mode `image`.
        attempts: Covers drawn for a face before giving up.
        bind_pixels: Refuse to decrypt a picture of which pixels were changed. Off, a payload
            survives recompression of the picture (it then has to travel in a sidecar).
        decoy: Mode `image` and `signflip`: a wrong key gives another face instead of an error.
        crop_size: Side of the face crops where no model says one.
        verify: Decrypt before returning, and raise if the original does not come back.
    """

    mode: RecoveryMode = RecoveryMode.LATENT
    steps: int = 20
    iterations: int = 5
    attempts: int = 8
    bind_pixels: bool = True
    decoy: bool = False
    crop_size: int = DEFAULT_CROP_SIZE
    verify: bool = True

    def __post_init__(self) -> None:
        if self.decoy and not self.mode.in_noise:
            raise InputError(f"Expected mode image or signflip for a decoy, got {self.mode.value}. Switch decoy off.")
        if self.steps < 2 or self.iterations < 0 or self.attempts < 1:
            raise InputError(f"Expected steps >= 2, iterations >= 0, attempts >= 1, got {self}.")


@dataclass(frozen=True, eq=False)
class EncryptResult:
    """The keyed picture and a report for each new face."""

    picture: KeyedPicture
    reports: tuple[FaceReport, ...]


def encrypt_faces(
    picture: KeyedPicture,
    faces: Faces,
    mask: Tensor,
    key: PrivacyKey,
    model: KeyedModel | None,
    settings: EncryptSettings,
    *,
    cover: Picture | None = None,
    check: CheckCovers | None = None,
    progress: Progress | None = None,
) -> EncryptResult:
    """Encrypt faces of one picture, each with its own nonce.

    Args:
        picture: A picture, or one of which other faces are encrypted already in this process.
        faces: Faces of this picture (a batch of one).
        mask: (1, 1, H, W) in [0, 1], what must be hidden.
        key: A raw key or a passphrase.
        model: Draws the covers and holds the latents; not needed in mode `exact` with a cover.
        settings: See `EncryptSettings`.
        cover: (H, W, 3) the same picture with other faces, from any method; modes `exact` and
            `latent`. None draws covers that are independent of the originals.
        check: Looks at the covers; failing ones are drawn again with another nonce.
        progress: Called after every step.

    Returns:
        The keyed picture; outside the faces every byte is the input's.

    Raises:
        NoFaceError: There is no face.
        InputError: Inputs do not go together.
        NumericalError: No cover passed the check, the inversion did not converge, or the
            original did not come back. Nothing is returned then.

    Laws: bytes outside the faces' cells never change; with an independent cover the published pixels
        do not depend on the hidden ones (save that the check may ask for another cover, and that
        the rim, outside what the mask hides by more than half, mixes both). In modes `image` and `signflip` the rim mixes the
        cover with what the surroundings were spread to, which says nothing of the original.
    """
    _check_inputs(picture, faces, key, model, settings, cover)
    layout = lay_out(picture, faces, mask, model, settings.crop_size)
    kdf = _kdf_of(picture, key)
    unsealed: dict[int, UnsealedFace] = {}
    published, waiting, attempts = picture.pixels, list(range(len(faces))), [0] * len(faces)
    problems: list[str | None] = []
    for _ in range(settings.attempts if cover is None else 1):
        made = _make_covers(layout, waiting, key, kdf, model, settings, cover, picture.pixels, progress)
        for index, (face, pixels) in made.items():
            unsealed[index] = face
            attempts[index] += 1
            claim = layout.claims[index]
            published = published.copy()
            published[claim.rows, claim.columns][claim.owned] = pixels[claim.rows, claim.columns][claim.owned]
        problems = (
            [None] * len(waiting) if check is None else check(layout.original, published, [faces.items[i] for i in waiting])
        )
        waiting = [index for index, problem in zip(waiting, problems, strict=True) if problem]
        if not waiting:
            break
    if waiting:
        reason = next(problem for problem in problems if problem)
        raise NumericalError(
            f"Expected a usable cover for face {layout.first + waiting[0]}, got none in {max(attempts)} attempts ({reason}). "
            "Widen the mask, use more steps, or connect a cover made by another method."
        )
    done = KeyedPicture(published, (*picture.faces, *(unsealed[index] for index in range(len(faces)))), picture.alpha)
    return EncryptResult(done, check_recovery(layout, done, key, model, attempts, verify=settings.verify))


def _check_inputs(
    picture: KeyedPicture,
    faces: Faces,
    key: PrivacyKey,
    model: KeyedModel | None,
    settings: EncryptSettings,
    cover: Picture | None,
) -> None:
    if not faces.items:
        raise NoFaceError("Expected at least one face to encrypt, got none. Choose others, or accept a lower confidence.")
    if (faces.num_images, faces.height, faces.width) != (1, *picture.pixels.shape[:2]):
        raise InputError(
            f"Expected faces of this one picture of {picture.pixels.shape[1]} x {picture.pixels.shape[0]} pixels, got "
            f"{faces.num_images} pictures of {faces.width} x {faces.height}. Give the picture that they were found in."
        )
    key.check_can_seal()
    if model is None and (cover is None or MODES[settings.mode].needs_model):
        raise InputError(f"Expected a model with its VAE for mode {settings.mode.value}, got none. Give both.")
    if cover is not None and settings.mode.in_noise:
        raise InputError(f"Expected no cover in mode {settings.mode.value}, which makes its own. Use mode latent or exact.")
    if cover is not None and cover.shape != picture.pixels.shape:
        raise InputError(f"Expected a cover of shape {picture.pixels.shape}, got {cover.shape}.")
    if any(not isinstance(face, UnsealedFace) for face in picture.faces):
        raise InputError(
            "Expected a picture whose other faces were encrypted in this run, got one from a file: its payloads are bound "
            "to its pixels and to each other. Decrypt it, and encrypt all faces in one workflow."
        )


def _kdf_of(picture: KeyedPicture, key: PrivacyKey) -> KdfParameters | None:
    """Return salt and cost for a passphrase: one of each for a picture, so that a reader hashes once."""
    fresh = key.new_kdf()
    return next((header.kdf for header in picture.headers if header.kdf is not None), fresh) if fresh else None


def _make_covers(
    layout: Layout,
    indexes: Sequence[int],
    key: PrivacyKey,
    kdf: KdfParameters | None,
    model: KeyedModel | None,
    settings: EncryptSettings,
    cover: Picture | None,
    base: Picture,
    progress: Progress | None,
) -> dict[int, tuple[UnsealedFace, Picture]]:
    """Draw a cover for every face of `indexes`, each with a fresh nonce."""
    nonces = [new_nonce() for _ in indexes]
    signers = [key.signing_key(kdf, nonce) for nonce in nonces]
    headers = [
        _header(layout, index, kdf, nonce, signer, model, settings, provided=cover is not None)
        for index, nonce, signer in zip(indexes, nonces, signers, strict=True)
    ]
    faces = [
        layout.face(index, header, key.face_key(kdf, header.nonce, header.to_bytes()))
        for index, header in zip(indexes, headers, strict=True)
    ]
    mode = MODES[settings.mode]
    if cover is not None:
        made = [(mode.payload(face), _soft_cover(base, cover, face.claim)) for face in faces]
    else:
        assert model is not None  # noqa: S101 - _check_inputs has seen to it
        drawn = zip(faces, mode.draw(faces, model, progress), strict=True)
        made = [(payload, mode.show(face, base, _decode(face, latent, model))) for face, (latent, payload) in drawn]
    return {
        index: (UnsealedFace(face.header, face.key, signer, payload), pixels)
        for index, face, signer, (payload, pixels) in zip(indexes, faces, signers, made, strict=True)
    }


def _decode(face: NewFace, latent: Tensor, model: KeyedModel) -> Tensor:
    with torch.no_grad():
        layer = lay_crop(model.decode(latent), face.region, face.claim)
    if not bool(torch.isfinite(layer).all()):
        raise NumericalError("Expected finite pixels from the model, got NaN or infinity. Use fp32 weights for model and VAE.")
    return layer


def _header(
    layout: Layout,
    index: int,
    kdf: KdfParameters | None,
    nonce: bytes,
    signer: SigningKey,
    model: KeyedModel | None,
    settings: EncryptSettings,
    *,
    provided: bool,
) -> FaceHeader:
    region = layout.regions[index]
    height, width = layout.original.shape[:2]
    mode = MODES[settings.mode]
    model_id, condition = ("", "") if model is None else mode.identify(model)
    return FaceHeader(
        mode=settings.mode,
        cover=Cover.PROVIDED if provided else mode.cover,
        nonce=nonce,
        kdf=kdf,
        width=width,
        height=height,
        crop_size=region.crop_size,
        crop_to_image=tuple(float(value) for value in region.crop_to_image.ravel()),
        cells=region.cells,
        model=model_id,
        condition=condition,
        steps=0 if provided else settings.steps,
        iterations=settings.iterations if mode.inverts else 0,
        bind=mode.bind if settings.bind_pixels and not settings.decoy else Bind.NONE,
        decoy=settings.decoy,
        signer=b"" if settings.decoy else signer.public,
    )


def _soft_cover(base: Picture, cover: Picture, claim: Claim) -> Picture:
    before, after = (picture[claim.rows, claim.columns][claim.owned].astype(int) for picture in (base, cover))
    if abs(before - after).mean() < MIN_COVER_DIFFERENCE:
        raise InputError("Expected a cover that shows other faces, got one that shows the original. Give the changed picture.")
    layer = to_tensor(cover)[0, :, claim.rows, claim.columns]
    return paste(base, layer, claim, soft=True)
