"""Mode `image`: the noise of the face, standardised and turned by a secret rotation, is that of its cover."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion.samplers import Background
from ...pixels import to_pixels, to_tensor
from ...protocols import Progress
from ..covers import background_on, public_noise
from ..decoder_inversion import invert_decoder
from ..fill import remove_faces
from ..header import FaceHeader
from ..mode_names import RecoveryMode
from ..models import KeyedModel
from ..payloads import read_coarse_moments, read_moments, write_coarse_moments, write_moments
from ..regions import Region, cut_crop, lay_crop
from ..transports import decrypt_noise, encrypt_noise
from .in_noise import NoiseMode
from .mode import ClosedFace, NewFace

REFINEMENTS = 240
"""Evaluations that find the latent behind a published face. With 120 its error was 9 to 11 %; 7 % is what 8 bits leave."""


class Image(NoiseMode):
    """The face comes back from the published pixels and two numbers a channel."""

    name, needs_surroundings, inverts = RecoveryMode.IMAGE, True, True

    def hide(self, face: NewFace, model: KeyedModel, progress: Progress | None) -> tuple[Tensor, bytes]:
        header = face.header
        assert face.surroundings is not None  # noqa: S101 - this mode has a model
        assert face.latent is not None  # noqa: S101
        background = _background(header, face.region, face.surroundings, model)
        latent, moments = encrypt_noise(
            model, face.latent, background, face.key, header.steps, header.iterations, progress, channelwise=not header.decoy
        )
        return latent, write_coarse_moments(moments[0]) if header.decoy else write_moments(moments)

    def find(self, face: ClosedFace, model: KeyedModel, progress: Progress | None) -> Tensor:
        header = face.header
        moments = [read_coarse_moments(face.payload)] if header.decoy else read_moments(face.payload)
        filled = remove_faces(face.picture.pixels, face.picture.claims)
        surroundings = model.encode(cut_crop(filled, face.region))
        visible = _visible_latent(face, filled, surroundings, model)
        background = _background(header, face.region, surroundings, model)
        return decrypt_noise(model, visible, background, face.key, moments, header.steps, header.iterations, progress)


def _background(header: FaceHeader, region: Region, surroundings: Tensor, model: KeyedModel) -> Background:
    noise = public_noise([header.nonce], tuple(surroundings.shape[1:]))
    return background_on(model.device, surroundings, noise, region.latent_mask())


def _visible_latent(face: ClosedFace, filled: Tensor, surroundings: Tensor, model: KeyedModel) -> Tensor:
    """Find the latent of the published face: the encoder's guess, refined against the pixels.

    On the rim a pixel is a blend with the filled picture, and counts the less the more of that is in it. (Until version 0.1.0
    it was blended with the original, which is not known; the filled picture stands for it.)
    """
    region, claim = face.region, face.claim
    mask, picture = region.latent_mask(), to_tensor(face.picture.pixels)
    guess = mask * model.encode(cut_crop(picture, region)) + (1.0 - mask) * surroundings
    weights = torch.from_numpy(claim.with_steep_rim().weights).float()
    seen, behind = (image[0, :, claim.rows, claim.columns] for image in (picture, to_tensor(to_pixels(filled))))

    def render(latent: Tensor) -> Tensor:
        return behind + weights * (lay_crop(model.decode(latent), region, claim) - behind)

    return invert_decoder(render, seen, weights**2, guess, mask, steps=REFINEMENTS)
