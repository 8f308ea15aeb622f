"""Draw faces anew: noise them, denoise under an embedding schedule and guidance, paste them back.

What anonymising and hiding share. They differ in their energies and in how far into noise
they go.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330).
Deviations: aligned crops instead of the squashed picture; the start level matches the noise
    added; the background is held at its correct noise level in every step and pasted back
    exactly; identity is measured on an aligned, antialiased crop by an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from .blending import add_change
from .diffusion.model import LatentModel, enlarger
from .diffusion.samplers import Background, sample_euler
from .diffusion.schedules import ddim_sigmas
from .embeddings.inversion import FaceInversion, ModelIdentity, inversion_of_tokens
from .embeddings.learning import LearningReport
from .embeddings.persons import TokenSettings, find_tokens, told_of
from .embeddings.schedule import StageSchedule, image_then_empty, recover_schedule
from .embeddings.scheduled import ScheduledDenoiser
from .errors import InputError
from .freed import give_back
from .guidance.guided import EnergyGuidance, GuidedParts, ImageEnergy
from .images import crop_faces, cut, paste_faces, take_crops
from .masks import MaskSettings, draw_masks
from .protocols import Progress
from .rng import face_seeds, seeded_noise
from .types import FaceCrops, Faces

MakeEnergy = Callable[[Tensor, Tensor, FaceCrops], ImageEnergy]
"""Receives the original crops (N, 3, S, S) and the mask (N, 1, S, S), both on the model's device,
and the placement; returns the energy that guides their regeneration."""


@dataclass(frozen=True, eq=False)
class Told:
    """What the model is told while it draws R = V * N faces, variant by variant.

    Attributes:
        inversion: Tokens of N or of R faces.
        schedule: When they act.
        start: (R or N, C, h, w) latents that are noised to begin with.
        pictures: (R, 3, S, S) in [0, 1] that the start is the encoding of, to which what the model changes is added, so that
            the autoencoder takes nothing from them. None takes what is decoded as it is.
    """

    inversion: FaceInversion
    schedule: StageSchedule
    start: Tensor
    pictures: Tensor | None = None


Tell = Callable[[Tensor, FaceCrops, Sequence[int]], Told]
"""Receives the original crops (N, 3, S, S) on the model's device, their placement and the seed of each result."""

FACES_AT_A_TIME = 8
"""Faces that are drawn together with donors, and results that are guided together where there is an accelerator."""

CROPS_AT_A_TIME = 2
"""Crops that are encoded or decoded together: each takes about 60 MB meanwhile."""


@dataclass(frozen=True)
class RegenerateSettings:
    """How every face is drawn anew.

    Attributes:
        steps: Steps over the whole noise schedule; `noise` decides how many are run.
        noise: How far into noise the face is taken, in (0, 1].
        switch: Timestep (of 1000) below which the picture's embedding is dropped.
        strength: Energy guidance; 0 switches it off, and then its networks are not needed.
        variants: Results per face.
        seed: Every face of an image and every variant gets its own noise from it.
        micro_batch: Results that are decoded and looked at for the gradient at a time, all variants of a face together; None
            takes as many as the model does.
        mask: Region that is replaced.
        tokens: How the person's own tokens are found, where the model is told them.
    """

    steps: int = 50
    noise: float = 0.6
    switch: float = 400.0
    strength: float = 1.0
    variants: int = 1
    seed: int = 0
    micro_batch: int | None = None
    mask: MaskSettings = field(default_factory=MaskSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise InputError(f"Expected at least one variant, got {self.variants}.")
        if not 0.0 < self.noise <= 1.0:
            raise InputError(f"Expected noise above 0 and at most 1, got {self.noise}.")
        if not 0.0 < self.switch < 1000.0:
            raise InputError(f"Expected a switch between timesteps 0 and 1000, got {self.switch}.")
        if self.strength < 0.0:
            raise InputError(f"Expected a strength >= 0, got {self.strength}.")


@dataclass(frozen=True, eq=False)
class RegenerateResult:
    """Changed pictures and what was done.

    Attributes:
        images: (V * B, 3, H, W), values in [0, 1] or bytes, variant by variant.
        mask: (B, 1, H, W) where pixels were replaced.
        crops: Placement of the faces.
        energies: Mean guidance energy at every guided step.
    """

    images: Tensor
    mask: Tensor
    crops: FaceCrops
    energies: tuple[float, ...]


def regenerate_faces(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    settings: RegenerateSettings,
    make_energy: MakeEnergy,
    *,
    progress: Progress | None = None,
) -> RegenerateResult:
    """Draw every given face anew.

    Args:
        images: (B, 3, H, W) on the CPU, values in [0, 1] or bytes. Not modified.
        faces: Faces to replace; at least one.
        model: Any.
        settings: See `RegenerateSettings`.
        make_energy: What guides the faces; not called at strength 0.
        progress: Called after every denoising step.

    Returns:
        Pictures of the input's size and kind; outside the mask every value is the input's.

    Raises:
        NoFaceError: No face was given.
        InputError: A face has too few pixels, or settings are out of range.
        NumericalError: The guidance left the finite numbers.

    Laws: seed and settings fix every bit; a batch equals its pictures alone; outside the
        mask nothing changes.
    """
    originals, crops = crop_faces(images, faces, model.resolution)
    mask = draw_masks(faces, settings.mask)[:, None]
    changeable = regeneration_mask(cut(mask, crops))
    results, energies = regenerate_crops(originals, changeable, crops, model, settings, make_energy, progress=progress)
    del originals, changeable
    return RegenerateResult(paste_faces(images, results, crops, mask, enlarge=enlarger(model)), mask, crops, energies)


def regenerate_crops(
    originals: Tensor,
    mask: Tensor,
    crops: FaceCrops,
    model: LatentModel,
    settings: RegenerateSettings,
    make_energy: MakeEnergy,
    *,
    tell: Tell | None = None,
    seeds: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, tuple[float, ...]]:
    """Draw aligned crops anew.

    Args:
        originals: (N, 3, S, S) crops in [0, 1].
        mask: (N, 1, S, S), 1 where the crop may change.
        crops: Placement of the crops.
        model, settings, make_energy, progress: See `regenerate_faces`.
        tell: What the model is told; by default the person's own tokens, then the empty condition.
        seeds: Of the V * N results; by default those of `rng.face_seeds`, the crops counted in their pictures.

    Returns:
        (V * N, 3, S, S) crops in [0, 1] and the mean energy at every guided step.
    """
    originals, mask = originals.to(model.device), mask.to(model.device)
    with torch.no_grad():
        latent = in_parts(model.encode, originals)
    if seeds is None:
        seeds = face_seeds(settings.seed, [crop.face.image_index for crop in crops.items], settings.variants)
    learnt = 0 if tell is not None else settings.tokens.updates_for(model)
    total = learnt + count_steps(model, settings)
    tell = tell or tell_the_person(model, latent, settings, part_of(progress, 0, total))
    told = tell(originals, crops, seeds)
    latent, start = (z.repeat(len(seeds) // len(z), 1, 1, 1) for z in (latent, told.start))
    denoiser = ScheduledDenoiser(model.denoise, model.schedule, told.inversion, told.schedule)
    sigmas = ddim_sigmas(model.schedule, settings.steps, settings.noise).float()
    noise = seeded_noise(seeds, tuple(latent.shape[1:])).to(model.device)
    latent_mask = F.max_pool2d(mask, originals.shape[-1] // latent.shape[-1])
    background = Background(latent, noise, latent_mask.repeat(settings.variants, 1, 1, 1))

    def decode(z: Tensor) -> Tensor:
        return model.decode(z).clamp(0.0, 1.0)

    guidance = None
    if settings.strength > 0.0:
        at_once = min(settings.micro_batch or len(seeds), model.at_once)
        count, parts = len(crops), []
        for group in torch.arange(count).split(max(1, at_once // settings.variants)):
            energy = make_energy(originals[group], mask[group], take_crops(crops, group.tolist()))
            guide = EnergyGuidance(energy, decode, model.schedule, settings.strength, micro_batch=at_once)
            parts.append((torch.cat([turn * count + group for turn in range(settings.variants)]), guide))
        guidance = GuidedParts(tuple(parts))
    with torch.no_grad():
        x = sample_euler(
            denoiser, background.restore(start + sigmas[0] * noise, float(sigmas[0])), sigmas, None,
            edit_denoised=guidance, background=background, progress=part_of(progress, learnt, total),
        )  # fmt: skip
        drawn = in_parts(decode, x)
        if told.pictures is not None:
            drawn = add_change(told.pictures, drawn, in_parts(decode, start))
        return drawn.cpu(), () if guidance is None else guidance.history


def guided_at_a_time(device: str) -> int:
    """Return how many results are guided together: each takes 430 MB, and on a processor more are hardly faster."""
    return 1 if device == "cpu" else FACES_AT_A_TIME


def count_steps(model: LatentModel, settings: RegenerateSettings) -> int:
    """Return how many denoising steps are made."""
    return len(ddim_sigmas(model.schedule, settings.steps, settings.noise)) - 1


def part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Count the steps of a part of the work as those of the whole."""
    if progress is None:
        return None
    return lambda step, _total, preview=None: progress(before + step, total, preview)


def tell_the_person(
    model: LatentModel, latent: Tensor, settings: RegenerateSettings, progress: Progress | None = None
) -> Tell:  # fmt: skip
    """Tell the model the person's own tokens above a timestep, and nothing below it.

    Args:
        model: Any.
        latent: (N, C, h, w) of the original crops; the drawing starts from them.
        settings: How tokens are found, and below which timestep they are dropped.
        progress: Called after every update, where they are learned.
    """

    def watch(report: LearningReport) -> None:
        if progress is not None:
            progress(report.step, report.total)

    def tell(originals: Tensor, crops: FaceCrops, seeds: Sequence[int]) -> Told:
        tokens = find_tokens(model, latent, seeds[: len(latent)], settings.tokens, progress=watch)
        return Told(told_of(model, tokens), image_then_empty(settings.switch), latent)

    return tell


def in_parts(network: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Run a network over a batch, a few members at a time: memory does not grow with the number of faces."""
    result = torch.cat([network(part) for part in values.split(CROPS_AT_A_TIME)])
    if len(values) > CROPS_AT_A_TIME:
        give_back()  # before arrays of the size of the picture are made
    return result


def regeneration_mask(mask: Tensor) -> Tensor:
    """Widen a soft crop mask (N, 1, S, S) to everything the paste will touch, hard-edged."""
    margin = mask.shape[-1] // 16
    return F.max_pool2d((mask > 0).float(), 2 * margin + 1, stride=1, padding=margin)


def tell_pictures(model: LatentModel, pictures: Tensor, start: Tensor) -> Told:
    """Tell the model pictures (R, 3, S, S) in [0, 1] at every noise level; drawn is what it changes in a start like them."""
    with torch.no_grad():
        tokens = in_parts(lambda part: model.read_tokens(model.encode(part))["unet"], pictures)
        latents = in_parts(model.encode, start)
    inversion = inversion_of_tokens(tokens, model.empty.tokens, ModelIdentity(model.name))
    return Told(inversion, recover_schedule(), latents, start)
