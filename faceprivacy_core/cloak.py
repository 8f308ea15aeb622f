"""Cloak faces: people go on recognising the person, recognisers do not.

A diffusion model is inverted a few shallow levels, the deepest latent is moved against recognisers,
and what that changes in the decoded crop is added to the picture.

Source: Enhancing Facial Privacy Protection via Weakening Diffusion Purification (2025, arXiv 2503.10350).
Deviations: only the change is pasted, at full resolution and under a mask; aligned schedule; dodging
    with calibrated thresholds, a margin and an early stop; the picture as it is saved is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .adversarial.agreement import check_agreement
from .adversarial.attack import AttackReport, History
from .adversarial.attempts import attack_repeatedly
from .adversarial.course import Course
from .adversarial.goals import Dodge, Goal, Impersonate, Resemble, check_as_many
from .adversarial.levels import Levels, choose_levels, invert_to_levels
from .adversarial.objective import Objective, Scene
from .adversarial.settings import DEFAULT_WEIGHTS, RELEASED, Aim, CloakSettings
from .adversarial.sight import Identities, see_sources, thresholds
from .adversarial.unconditional import EmptyConditions, find_empty_conditions
from .adversarial.verdict import Judge, check_protected
from .align import warp
from .builtin.model import FaceModel
from .diffusion.model import Capability, LatentModel, require
from .errors import InputError
from .faces.by_hand import is_guessed
from .faces.sight import scale_landmarks
from .images import crop_faces, crop_landmarks, share_mask
from .masks import draw_masks
from .protocols import FaceRecognizer, PerceptualNetwork, Progress
from .rng import face_seeds
from .types import FaceCrops, Faces

__all__ = ["DEFAULT_WEIGHTS", "RELEASED", "Aim", "CloakResult", "CloakSettings", "cloak_faces"]

VIEW_PX = 256
"""Least side of the crops recognisers see during the attack; theirs are 112 or 160 pixels of about half of it."""


@dataclass(frozen=True, eq=False)
class CloakResult:
    """Cloaked pictures and how well they are.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W) where pixels could change.
        crops: Placement of the N faces.
        levels: Noise levels in use.
        latents: (N, C, h, w) attacked latents at the deepest level, VE coordinates, on the CPU.
        conditions: What the model is told at every level on the way down.
        history: Course of the attack, all attempts.
        similarities: (N, M) of the finished picture, rounded to 8 bits, to the original (unless the
            aim is to dodge: to the target).
        thresholds: (M,) similarities from which they count as one person.
        is_protected: (N,) whether all recognisers agree that it is another person (unless the aim is
            to dodge: that it is the target).
        cancelled: Whether the work was stopped early.
    """

    images: Tensor
    mask: Tensor
    crops: FaceCrops
    levels: Levels
    latents: Tensor
    conditions: EmptyConditions
    history: History
    similarities: Tensor
    thresholds: Tensor
    is_protected: Tensor
    cancelled: bool


def cloak_faces(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: CloakSettings,
    *,
    target: Identities | None = None,
    perceptual: PerceptualNetwork | None = None,
    progress: Progress | None = None,
    watch: Callable[[AttackReport], None] | None = None,
    keep_best_on_cancel: tuple[type[BaseException], ...] = (),
) -> CloakResult:
    """Cloak every given face with any diffusion model.

    Args:
        images: (B, 3, H, W) in [0, 1]. Not modified.
        faces: Faces to cloak; at least one.
        model: The model; its weights are not changed.
        recognizers: Differentiable recognisers to protect against, on that device.
        settings: See `CloakSettings`.
        target: Of `see_target` or `see_faces`: whom to resemble; None is nobody in particular.
        perceptual: Needed when its weight is above 0.
        progress: Called after every level that is prepared and after every iteration.
        watch: Told the state of the attack after every iteration.
        keep_best_on_cancel: See `attack_latents`.

    Returns:
        Pictures of the input's size; outside the mask every value is the input's. With 0 iterations
        they are the input.

    Raises:
        NoFaceError: No face was given.
        InputError: A face has too few pixels or guessed landmarks, the target is the source, the aim lacks a target or
            the acknowledgement, or a truncated gradient that was asked for leads elsewhere.
        UnsupportedModelError: Recogniser or model without gradient, model without self-attention where that counts.
        NumericalError: A face is not protected, or a computation left the finite numbers.

    Laws: seed and settings fix every bit; a batch equals its pictures alone; outside the mask
        nothing changes.
    """
    if any(is_guessed(face) for face in faces.items):
        raise InputError(
            "Expected faces in which a detector finds eyes and mouth, got one that was painted by hand: whether recognisers "
            "still know it cannot be checked. Anonymise, blur or cover it instead."
        )
    require(model, Capability.GRADIENT, "cloaking")
    if settings.weights.structure > 0.0:
        require(model, Capability.ATTENTION, "a structure weight")
    if settings.bf16 and isinstance(model, FaceModel):
        model = model.in_bfloat16()
    with torch.inference_mode(False):
        course = Course(len(settings.levels), settings.attack.iterations, settings.attempts, progress, watch)
        return _cloak(
            images.clone(), faces, model, recognizers, settings, target, perceptual, course, keep_best_on_cancel
        )  # fmt: skip


def _cloak(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: CloakSettings,
    target: Identities | None,
    perceptual: PerceptualNetwork | None,
    course: Course,
    keep_best_on_cancel: tuple[type[BaseException], ...],
) -> CloakResult:
    originals, crops = crop_faces(images, faces, max(VIEW_PX, model.resolution))
    mask = draw_masks(faces, settings.mask)[:, None]
    scene = _scene(originals, crops, mask, settings.seed, model.device)
    goal = _goal(see_sources(recognizers, scene.originals, scene.landmarks5), recognizers, settings, target)
    levels = choose_levels(model.schedule, settings.levels)
    reference, conditions = _prepare(scene.originals, model, levels, settings, course.level)
    whom = None if settings.aim == Aim.DODGE else target
    judge = Judge(images, crops, mask, recognizers, scene.originals.device, whom)
    with Objective(
        model, levels, reference, conditions, scene, recognizers, goal, settings.weights, transforms=settings.transforms,
        perceptual=perceptual, budget=settings.budget, colour=settings.colour, shift=settings.shift,
        truncated=settings.is_truncated(Capability.SHORT_CUT in model.capabilities), checkpointed=settings.checkpoint,
    ) as objective:  # fmt: skip
        if settings.truncated_gradient:
            check_agreement(objective, settings.attack.learning_rate)
        found = attack_repeatedly(
            objective, settings.attack, settings.attempts, judge, course, keep_best_on_cancel=keep_best_on_cancel
        )
    verdict = judge(found.residuals)
    if settings.require_protection:
        check_protected(verdict, recognizers, "known" if settings.aim == Aim.KEEP else "protected")
    return CloakResult(
        judge.paste(found.residuals), mask, crops, levels, found.latents.cpu(), conditions, found.history,
        verdict.similarities, thresholds(recognizers), verdict.is_protected, found.cancelled,
    )  # fmt: skip


def _scene(originals: Tensor, crops: FaceCrops, mask: Tensor, seed: int, device: torch.device) -> Scene:
    size = originals.shape[-1]
    shares = (share.whole(*mask.shape[-2:])[None] for share in share_mask(crops, mask))
    cuts = [warp(share, crop.crop_to_image, (size, size)) for share, crop in zip(shares, crops.items, strict=True)]
    landmarks = scale_landmarks(crop_landmarks(crops), crops.size, size)
    seeds = face_seeds(seed, [crop.face.image_index for crop in crops.items])
    return Scene(originals.to(device), torch.cat(cuts).to(device), landmarks.to(device), seeds)


def _goal(
    sources: Identities, recognizers: Sequence[FaceRecognizer], settings: CloakSettings, target: Identities | None
) -> Goal:
    limits = thresholds(recognizers)
    if settings.aim == Aim.DODGE:
        return Dodge(sources, limits, settings.margin, None, settings.hinge, target)
    if target is None:
        raise InputError(f"Expected a target to {settings.aim.value}, got none. Supply one, or use dodging.")
    check_as_many(sources, target)
    numbers = (target, limits, settings.margin, None, settings.hinge)
    if settings.aim == Aim.KEEP:
        return Resemble(*numbers)
    return Impersonate(*numbers, sources=sources, acknowledged=settings.acknowledged)


def _prepare(
    originals: Tensor, model: LatentModel, levels: Levels, settings: CloakSettings, progress: Callable[[int], None]
) -> tuple[Tensor, EmptyConditions]:
    """Invert the faces and find what the model is told on the way down."""
    side = (model.resolution, model.resolution)
    small = F.interpolate(originals, side, mode="bilinear", antialias=True, align_corners=False).clamp(0.0, 1.0)
    latent = model.encode(small).detach().clone().float()
    empty = model.empty
    trajectory = invert_to_levels(model.denoise, latent, levels, empty)
    conditions = find_empty_conditions(
        model, trajectory, levels, settings.empty, shift=settings.shift, progress=progress
    )  # fmt: skip
    return trajectory[-1], conditions
