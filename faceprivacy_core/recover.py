"""Invert faces with a model, and bring them back from what was saved.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), recovery.
Deviations: fixed-point inversion on the sampler's own levels, with the conditions in the precision in
    which they are saved; aligned crops, pasted back where they were cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .diffusion.inversion import invert_euler
from .diffusion.model import Capability, LatentModel, enlarger, identity_of
from .diffusion.samplers import sample_euler
from .diffusion.schedules import ddim_sigmas
from .embeddings.inversion import FaceInversion, NoiseMap, StageTokens
from .embeddings.persons import TokenSettings, find_tokens, told_of
from .embeddings.schedule import recover_schedule
from .embeddings.scheduled import ScheduledDenoiser
from .errors import InputError
from .images import crop_faces, paste_faces
from .inversions.checks import check_channels, check_levels, check_model
from .inversions.stored import Conditions, StoredInversion, as_stored, conditions_of_tokens
from .masks import MaskSettings, draw_masks
from .protocols import Progress
from .regenerate import in_parts
from .rng import face_seeds
from .types import Faces

DEFAULT_STEPS = 20
DEFAULT_ITERATIONS = 5


def invert_faces(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    *,
    steps: int = DEFAULT_STEPS,
    iterations: int = DEFAULT_ITERATIONS,
    tokens: TokenSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> FaceInversion:
    """Find tokens and noise from which the model draws the given faces again.

    Args:
        images: (B, 3, H, W) in [0, 1] on the CPU. Not modified.
        faces: Faces of these pictures, at least one.
        model: Any, on any device.
        steps: Sampling steps over the whole noise schedule.
        iterations: Fixed-point iterations in each step; the model is called steps * (1 + iterations) times.
        tokens: How the faces' tokens are found; None reads them off the picture where the model can, and learns them elsewhere.
        seed: Of what learning denoises.
        progress: Called after every step.

    Returns:
        Tokens, conditions, noise map, placement and model identity, on the CPU.

    Raises:
        NoFaceError: There is no face.
        InputError: Pictures and faces do not belong together, or a face is too small.
        NumericalError: The inversion left the finite numbers.
    """
    crops, placement = crop_faces(images, faces, model.resolution)
    with torch.no_grad():
        latents = in_parts(model.encode, crops.to(model.device))
    seeds = face_seeds(seed, [crop.face.image_index for crop in placement.items])
    found = find_tokens(model, latents, seeds, tokens or TokenSettings())
    told = told_of(model, {name: as_stored(entry) for name, entry in found.items()}, identity_of(model))
    sigmas = ddim_sigmas(model.schedule, steps).float()
    denoiser = ScheduledDenoiser(model.denoise, model.schedule, told, recover_schedule())
    with torch.no_grad():
        inverted = invert_euler(denoiser, latents, sigmas, None, iterations=iterations, progress=progress)
    noise = NoiseMap((inverted.noise / sigmas[0]).cpu(), tuple(sigmas.tolist()), inverted.residual)
    return replace(told.to("cpu"), noise=noise, crops=placement)


def open_inversion(stored: StoredInversion, model: LatentModel) -> FaceInversion:
    """Return a saved inversion with its conditions, ready for sampling with the model it was made with.

    Raises:
        InversionModelError: The model is another one.
        InputError: The tokens are for another kind of model.
    """
    check_model(stored.model, identity_of(model))

    def make(tokens: Mapping[str, StageTokens]) -> Conditions:
        if Capability.IMAGE_TOKENS in model.capabilities:
            return conditions_of_tokens(model.empty.tokens)(tokens)
        told = told_of(model, tokens, stored.model)
        return Conditions(told.stages, told.empty, told.pooled, told.empty_pooled)

    return stored.with_conditions(make)


def recover_crops(
    inversion: FaceInversion, model: LatentModel, *, steps: int | None = None, progress: Progress | None = None
) -> Tensor:
    """Draw the faces of an inversion again.

    Args:
        inversion: Of N faces, with noise map.
        model: The model it was made with, on any device.
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
    check_model(inversion.model, identity_of(model))
    check_channels(inversion.noise, model.channels)
    check_levels(inversion.noise, model.schedule, steps)
    side = model.factor * inversion.noise.latent.shape[-1]
    if side != model.resolution or (inversion.crops is not None and inversion.crops.size != side):
        crop_size = None if inversion.crops is None else inversion.crops.size
        raise InputError(
            f"Expected an inversion of crops of {model.resolution} pixels, got a noise map for {side} and crops of "
            f"{crop_size}. Use the noise map and the placement of one inversion."
        )
    denoiser = ScheduledDenoiser(model.denoise, model.schedule, inversion.to(model.device), recover_schedule())
    sigmas = torch.tensor(inversion.noise.sigmas)
    with torch.no_grad():
        start = inversion.noise.latent.to(model.device).float() * sigmas[0].to(model.device)
        latents = sample_euler(denoiser, start, sigmas, None, progress=progress)
        return in_parts(model.decode, latents).clamp(0.0, 1.0).cpu()


def recover_faces(
    images: Tensor,
    inversion: FaceInversion,
    model: LatentModel,
    mask: MaskSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Tensor:
    """Draw the faces of an inversion again, and paste them into pictures.

    Args:
        images: (B, 3, H, W) in [0, 1], for example the protected pictures. Not modified.
        inversion: With noise map and placement.
        model: The model it was made with.
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
    drawn = recover_crops(inversion, model, progress=progress)
    return paste_faces(images, drawn, crops, masks, enlarge=enlarger(model))
