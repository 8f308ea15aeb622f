"""Whether an inversion fits a model, before anything is computed."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ..diffusion.schedules import NoiseSchedule
from ..embeddings.inversion import ModelIdentity, NoiseMap
from ..errors import InversionModelError, InversionPictureError, InversionStepsError

UNET, VAE, TEXT_ENCODER = "denoiser", "autoencoder (VAE)", "text encoder"
LEVEL_TOLERANCE = 1e-4
"""Relative; hosts keep their levels in float32."""


def check_model(stored: ModelIdentity, present: ModelIdentity) -> None:
    """Make sure that an inversion meets the model it was made with.

    Args:
        stored: Of the inversion; an empty text encoder means that none is needed.
        present: Of the model at hand.

    Raises:
        InversionModelError: A part differs; its text names the part.
    """
    parts = ((UNET, stored.unet, present.unet), (VAE, stored.vae, present.vae))
    for part, wanted, found in parts:
        if not wanted or wanted != found:
            raise InversionModelError(part)
    if stored.text_encoder and stored.text_encoder != present.text_encoder:
        raise InversionModelError(TEXT_ENCODER)


def check_channels(noise: NoiseMap, channels: int) -> None:
    """Make sure that a noise map has as many channels as the latents of the model.

    A file without protection may say that it is for this model and hold anything.

    Raises:
        InversionModelError: It has more or fewer.
    """
    if noise.latent.shape[1] != channels:
        raise InversionModelError(UNET)


def check_levels(noise: NoiseMap, schedule: NoiseSchedule, steps: int | None = None) -> None:
    """Make sure that a model has the noise levels of a noise map.

    Args:
        noise: With its levels.
        schedule: Of the model.
        steps: Steps that will be sampled; None for those of the noise map.

    Raises:
        InversionStepsError: A level lies outside the model's, or the number of steps differs.
    """
    low, high = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
    levels = noise.sigmas[:-1]
    reached = all(low * (1.0 - LEVEL_TOLERANCE) <= level <= high * (1.0 + LEVEL_TOLERANCE) for level in levels)
    if not reached or steps not in (None, noise.num_steps):
        raise InversionStepsError


def picture_digest(picture: NDArray[np.uint8]) -> str:
    """Hash the pixels of a picture (H, W, 3): 64 hexadecimal digits, whatever file they are stored in."""
    size = f"{picture.shape[0]}x{picture.shape[1]}|".encode()
    return hashlib.sha256(size + np.ascontiguousarray(picture).tobytes()).hexdigest()


def check_picture(stored_digest: str, picture: NDArray[np.uint8]) -> None:
    """Make sure that an inversion was saved with this protected picture, if it was saved with any.

    Raises:
        InversionPictureError: It was saved with another one.
    """
    if stored_digest and stored_digest != picture_digest(picture):
        raise InversionPictureError
