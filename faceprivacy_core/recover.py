"""Invert faces with the built-in model, and bring them back from what was saved.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), recovery.
Deviations: fixed-point inversion on the sampler's own levels, with the conditions in the precision in
    which they are saved; aligned crops, pasted back where they were cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .builtin.model import FaceModel
from .diffusion.inversion import invert_euler
from .diffusion.samplers import sample_euler
from .diffusion.schedules import ddim_sigmas
from .embeddings.inversion import FaceInversion, ModelIdentity, NoiseMap, StageTokens
from .embeddings.schedule import recover_schedule
from .embeddings.scheduled import ScheduledDenoiser
from .errors import InputError
from .fingerprints import fingerprint, named_weights
from .images import crop_faces, paste_faces
from .inversions.checks import check_channels, check_levels, check_model
from .inversions.stored import as_stored
from .masks import MaskSettings, draw_masks
from .protocols import Progress
from .types import Faces

DEFAULT_STEPS = 20
DEFAULT_ITERATIONS = 5

RefineTokens = Callable[[StageTokens, Tensor], StageTokens]
"""Receives encoded tokens and clean latents (N, C, h, w), returns tokens that describe them better."""


def model_identity(model: FaceModel) -> ModelIdentity:
    """Return the name and fingerprints of the built-in model; it needs no text encoder."""
    unet, vae = (fingerprint(named_weights(network)) for network in (model.denoiser.unet, model.autoencoder))
    return ModelIdentity(model.model_name, unet, vae)


def invert_faces(
    images: Tensor,
    faces: Faces,
    model: FaceModel,
    *,
    steps: int = DEFAULT_STEPS,
    iterations: int = DEFAULT_ITERATIONS,
    refine: RefineTokens | None = None,
    progress: Progress | None = None,
) -> FaceInversion:
    """Find tokens and noise from which the model draws the given faces again.

    Args:
        images: (B, 3, H, W) in [0, 1] on the CPU. Not modified.
        faces: Faces of these pictures, at least one.
        model: The built-in face model, on any device.
        steps: Sampling steps over the whole noise schedule.
        iterations: Fixed-point iterations in each step; the model is called steps * (1 + iterations) times.
        refine: Improves the encoder's tokens first; None leaves them as they are.
        progress: Called after every step.

    Returns:
        Tokens, conditions, noise map, placement and model identity, on the CPU.

    Raises:
        NoFaceError: There is no face.
        InputError: Pictures and faces do not belong together, or a face is too small.
        NumericalError: The inversion left the finite numbers.
    """
    crops, placement = crop_faces(images, faces, model.resolution)
    crops = crops.to(next(model.autoencoder.parameters()).device)
    with torch.no_grad():
        latents = model.autoencoder.encode(crops * 2.0 - 1.0)
        encoded = model.encode_tokens(crops)
    offsets = torch.zeros(1, encoded.shape[0], 1, encoded.shape[2], device=encoded.device)
    tokens = StageTokens(offsets, encoded)
    tokens = as_stored(tokens if refine is None else refine(tokens, latents))
    identity, empty = model_identity(model), model.empty_tokens()
    conditions = FaceInversion(tokens.stacked(), empty, identity)
    schedule = model.denoiser.schedule
    sigmas = ddim_sigmas(schedule, steps).float()
    denoiser = ScheduledDenoiser(model.denoiser, schedule, conditions, recover_schedule())
    with torch.no_grad():
        inverted = invert_euler(denoiser, latents, sigmas, None, iterations=iterations, progress=progress)
    noise = NoiseMap((inverted.noise / sigmas[0]).cpu(), tuple(sigmas.tolist()), inverted.residual)
    kept = StageTokens(tokens.offsets.cpu(), None if tokens.base is None else tokens.base.cpu())
    return FaceInversion(kept.stacked(), empty.cpu(), identity, tokens={"unet": kept}, noise=noise, crops=placement)


def recover_crops(
    inversion: FaceInversion, model: FaceModel, *, steps: int | None = None, progress: Progress | None = None
) -> Tensor:
    """Draw the faces of an inversion again.

    Args:
        inversion: Of N faces, with noise map.
        model: The built-in face model it was made with, on any device.
        steps: Steps the caller counts on; None takes those of the noise map.
        progress: Called after every step.

    Returns:
        (N, 3, S, S) crops in [0, 1] on the CPU.

    Raises:
        InputError: There is no noise map, or it is of crops of another size.
        InversionModelError: The model is another one.
        InversionStepsError: The noise levels are not the model's, or the steps are others.
    """
    if inversion.noise is None:
        raise InputError("Expected an inversion with a noise map, got one without. Invert again with the noise map.")
    check_model(inversion.model, model_identity(model))
    check_channels(inversion.noise, model.denoiser.unet.config.in_channels)
    check_levels(inversion.noise, model.denoiser.schedule, steps)
    side = model.autoencoder.config.downscale * inversion.noise.latent.shape[-1]
    if side != model.resolution or (inversion.crops is not None and inversion.crops.size != side):
        crop_size = None if inversion.crops is None else inversion.crops.size
        raise InputError(
            f"Expected an inversion of crops of {model.resolution} pixels, got a noise map for {side} and crops of "
            f"{crop_size}. Use the noise map and the placement of one inversion."
        )
    device = next(model.autoencoder.parameters()).device
    there = FaceInversion(inversion.stages.to(device), inversion.empty.to(device), inversion.model)
    denoiser = ScheduledDenoiser(model.denoiser, model.denoiser.schedule, there, recover_schedule())
    sigmas = torch.tensor(inversion.noise.sigmas)
    with torch.no_grad():
        start = inversion.noise.latent.to(device).float() * sigmas[0].to(device)
        latents = sample_euler(denoiser, start, sigmas, None, progress=progress)
        decoded = model.autoencoder.decode(latents)
    return ((decoded + 1.0) / 2.0).clamp(0.0, 1.0).cpu()


def recover_faces(
    images: Tensor,
    inversion: FaceInversion,
    model: FaceModel,
    mask: MaskSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Tensor:
    """Draw the faces of an inversion again, and paste them into pictures.

    Args:
        images: (B, 3, H, W) in [0, 1], for example the protected pictures. Not modified.
        inversion: With noise map and placement.
        model: The built-in face model it was made with.
        mask: Region that is replaced; None means the default.
        progress: Called after every step.

    Returns:
        (B, 3, H, W). Where the mask is 0 every value is exactly that of `images`.

    Raises:
        InputError: Placement is missing, or the pictures are of another size or count.
        InversionModelError, InversionStepsError: See `recover_crops`.
    """
    crops = inversion.crops
    if crops is None:
        raise InputError("Expected an inversion with the placement of its crops, got one without. Use `recover_crops`.")
    wanted = (crops.faces.num_images, 3, crops.faces.height, crops.faces.width)
    if tuple(images.shape) != wanted:
        raise InputError(
            f"Expected pictures of the shape the faces were found in, {wanted}, got {tuple(images.shape)}. Use the protected "
            "picture as it was written, neither resized nor turned."
        )
    masks = draw_masks(crops.faces, mask or MaskSettings())[:, None]
    return paste_faces(images, recover_crops(inversion, model, progress=progress), crops, masks)
