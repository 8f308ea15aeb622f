"""Puts other faces over the chosen ones, such that a key brings the originals back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, NoFaceError, NumericalError
from ..pixels import to_pixels, to_tensor
from ..protocols import Progress
from ..types import Face, Faces
from .covers import background_on, draw_independent, public_noise
from .derivation import FaceKey, KdfParameters, SigningKey, new_nonce
from .header import Bind, Cover, FaceHeader, RecoveryMode
from .keys import PrivacyKey
from .layout import Layout, lay_out
from .models import KeyedModel
from .payloads import write_coarse_moments, write_latent, write_moments, write_pixels
from .picture import KeyedPicture, Picture, UnsealedFace
from .regions import Claim, cut_crop, lay_crop, paste
from .self_check import FaceReport, check_recovery
from .transports import encrypt_noise, flip_signs

CheckCovers = Callable[[Picture, Picture, Sequence[Face]], list[str | None]]
DEFAULT_CROP_SIZE = 512
"""Side of the crops where no model says one."""

MIN_COVER_DIFFERENCE = 2.0
"""Mean change over a face, in 8-bit steps, below which a given cover hides nothing."""

NOISE_MODES = (RecoveryMode.IMAGE, RecoveryMode.SIGNFLIP)


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
        if self.decoy and self.mode not in NOISE_MODES:
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
        raise NoFaceError("Expected at least one face to encrypt, got none. Check the Face Mask settings.")
    if (faces.num_images, faces.height, faces.width) != (1, *picture.pixels.shape[:2]):
        raise InputError(
            f"Expected faces of this one picture of {picture.pixels.shape[1]} x {picture.pixels.shape[0]} pixels, got "
            f"{faces.num_images} pictures of {faces.width} x {faces.height}. Connect the same image to Face Mask."
        )
    key.check_can_seal()
    if model is None and (cover is None or settings.mode is not RecoveryMode.EXACT):
        raise InputError(f"Expected a MODEL and VAE for mode {settings.mode.value}, got none. Connect them.")
    if cover is not None and settings.mode in NOISE_MODES:
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
    keys = [key.face_key(kdf, header.nonce, header.to_bytes()) for header in headers]
    if cover is not None:
        pictures = [_soft_cover(base, cover, layout.claims[index]) for index in indexes]
        return {
            index: (UnsealedFace(header, face_key, signer, _payload(layout, index, settings)), pixels)
            for index, header, face_key, signer, pixels in zip(indexes, headers, keys, signers, pictures, strict=True)
        }
    assert model is not None  # noqa: S101 - _check_inputs has seen to it
    assert layout.surroundings is not None  # noqa: S101
    assert layout.filled is not None  # noqa: S101
    if settings.mode in NOISE_MODES:
        drawn = [_transport(layout, i, h, k, model, settings, progress) for i, h, k in zip(indexes, headers, keys, strict=True)]
    else:
        cells = torch.cat([layout.regions[index].latent_mask() for index in indexes])
        latents = draw_independent(model, layout.surroundings[list(indexes)], cells, keys, nonces, settings.steps, progress)
        drawn = [(latent[None], _payload(layout, index, settings)) for index, latent in zip(indexes, latents, strict=True)]
    made = {}
    for index, header, face_key, signer, (latent, payload) in zip(indexes, headers, keys, signers, drawn, strict=True):
        region, claim = layout.regions[index], layout.claims[index]
        with torch.no_grad():
            layer = lay_crop(model.decode(latent), region, claim)
        _check_finite(layer)
        if settings.mode in NOISE_MODES:  # who reads the latent off the pixels must know what is behind the rim
            pixels = paste(to_pixels(layout.filled), layer, claim.with_steep_rim(), soft=True)
        else:
            pixels = paste(base, layer, claim, soft=True)
        made[index] = (UnsealedFace(header, face_key, signer, payload), pixels)
    return made


def _check_finite(layer: Tensor) -> None:
    if not bool(torch.isfinite(layer).all()):
        raise NumericalError("Expected finite pixels from the model, got NaN or infinity. Use fp32 weights for model and VAE.")


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
    in_noise = settings.mode in NOISE_MODES
    model_id = ""
    if model is not None and settings.mode is not RecoveryMode.EXACT:
        model_id = model.model_fingerprint() if in_noise else model.vae_fingerprint()
    unbound = not settings.bind_pixels or settings.decoy or settings.mode is RecoveryMode.SIGNFLIP
    bound = Bind.SURROUNDINGS if in_noise else Bind.PICTURE
    return FaceHeader(
        mode=settings.mode,
        cover=Cover.PROVIDED if provided else Cover.KEYED if in_noise else Cover.INDEPENDENT,
        nonce=nonce,
        kdf=kdf,
        width=width,
        height=height,
        crop_size=region.crop_size,
        crop_to_image=tuple(float(value) for value in region.crop_to_image.ravel()),
        cells=region.cells,
        model=model_id,
        condition=model.condition_fingerprint() if model is not None and in_noise else "",
        steps=0 if provided else settings.steps,
        iterations=settings.iterations if settings.mode is RecoveryMode.IMAGE else 0,
        bind=Bind.NONE if unbound else bound,
        decoy=settings.decoy,
        signer=b"" if settings.decoy else signer.public,
    )


def _payload(layout: Layout, index: int, settings: EncryptSettings) -> bytes:
    if settings.mode is RecoveryMode.EXACT:
        return write_pixels(layout.original, layout.claims[index])
    assert layout.latents is not None  # noqa: S101 - mode latent has a model
    return write_latent(layout.latents[index : index + 1])


def _transport(
    layout: Layout,
    index: int,
    header: FaceHeader,
    key: FaceKey,
    model: KeyedModel,
    settings: EncryptSettings,
    progress: Progress | None,
) -> tuple[Tensor, bytes]:
    """Encrypt the face into the noise of its cover: latent of the cover, and payload."""
    assert layout.surroundings is not None  # noqa: S101
    assert layout.latents is not None  # noqa: S101
    cells = layout.regions[index].latent_mask()
    if settings.mode is RecoveryMode.SIGNFLIP:
        face = model.encode(cut_crop(to_tensor(layout.original), layout.regions[index]))
        return flip_signs(model, face, cells, key, settings.steps, progress), b""
    surroundings = layout.surroundings[index : index + 1]
    noise = public_noise([header.nonce], tuple(surroundings.shape[1:]))
    background = background_on(model.device, surroundings, noise, cells)
    face = layout.latents[index : index + 1]
    latent, moments = encrypt_noise(
        model, face, background, key, settings.steps, settings.iterations, progress, channelwise=not settings.decoy
    )
    return latent, write_coarse_moments(moments[0]) if settings.decoy else write_moments(moments)


def _soft_cover(base: Picture, cover: Picture, claim: Claim) -> Picture:
    before, after = (picture[claim.rows, claim.columns][claim.owned].astype(int) for picture in (base, cover))
    if abs(before - after).mean() < MIN_COVER_DIFFERENCE:
        raise InputError(
            "Expected a cover that shows other faces, got one that shows the original. Connect the changed picture."
        )
    layer = to_tensor(cover)[0, :, claim.rows, claim.columns]
    return paste(base, layer, claim, soft=True)
