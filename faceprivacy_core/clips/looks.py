"""The new face of one person of a clip: drawn once, then once more for every other pose, from the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..anonymize import AnonymizeSettings, Look, draw_in_masks, see_crops
from ..auditions import judge_in_place
from ..blending import match_light, match_seam
from ..donors import fill_in
from ..errors import InputError, NumericalError
from ..faces.sight import embed_all
from ..images import crop_faces, crop_landmarks, cut
from ..ovals import SKIN
from ..pixels import to_tensor
from ..protect import FALSE_MATCH_RATE, DrawingTools
from ..protocols import FaceRecognizer, Progress
from ..regenerate import Told, regenerate_crops, regeneration_mask, tell_pictures
from ..rng import face_seed
from ..types import FaceCrops, Faces, FloatArray
from .bending import bend
from .views import View, pose_distance

POSE_NOISE = 0.35
"""How far into noise the bent first face is taken, so that the model turns it into the other pose."""
SAMPLE_MARGIN = 0.05
"""A new face has to stay this far below the threshold in the samples: there are many more frames than these."""
ATTEMPTS = 2
"""Seeds from which a face is drawn for every mask, where recognisers know the person in some of the samples."""
SOFTNESS = 0.015
"""Distance of poses over which one drawn face passes into the other."""

MIN_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class NewLook:
    """The new face of one person.

    Attributes:
        faces: (K, 3, S, S) in [0, 1], one drawn face for every pose.
        poses: (K, 5, 2) landmarks of the person whose face they replace, as fractions of the side.
        masks: (M, 1, S, S) in [0, 1] for the first pose: what is replaced, then what is replaced from a frame on in which a
            recogniser still knows the person.
    """

    faces: Tensor
    poses: FloatArray
    masks: Tensor

    def at(self, pose: FloatArray) -> Tensor:
        """Return the face (3, S, S) for landmarks (5, 2), fractions of the side."""
        distances = np.array([pose_distance(drawn, pose) for drawn in self.poses])
        weights = np.exp(-(((distances - distances.min()) / SOFTNESS) ** 2))
        nearest = np.argsort(distances)[:2]
        shares = weights[nearest] / weights[nearest].sum()
        used = [index for index, share in zip(nearest, shares, strict=True) if share > MIN_SHARE]
        shares = weights[used] / weights[used].sum()
        bent = torch.stack([bend(self.faces[index], self.poses[index], pose) for index in used])
        return (bent * torch.from_numpy(shares).to(bent).view(-1, 1, 1, 1)).sum(dim=0)

    def mask_at(self, pose: FloatArray, number: int = 0) -> Tensor:
        """Return a mask (1, S, S) for landmarks (5, 2), fractions of the side; it moves with the face instead of flickering."""
        return bend(self.masks[number], self.poses[0], pose)


def draw_look(
    views: Sequence[View],
    person: int,
    tools: DrawingTools,
    settings: AnonymizeSettings,
    *,
    samples: Sequence[View] = (),
    progress: Progress | None = None,
) -> NewLook | None:
    """Draw the new face of a person.

    Args:
        views: Of the person, the best first.
        person: Number; every person gets noise and a donor of their own from it and the seed.
        tools: Model, recognisers and detector.
        settings: How a face is drawn; the look of a donor, one variant.
        samples: Further views. A new face in which a recogniser still knows the person of one of them is drawn again from
            another seed, then over more of the head.
        progress: Called after every denoising step.

    Returns:
        The face, or None if there is no view, or none was accepted: the person has to be hidden another way.

    Raises:
        InputError: The look is the person's own: that would be another face in every frame.

    Laws: views, person, seed and settings fix every bit.
    """
    if settings.look is not Look.DONOR:
        raise InputError("Expected a generated person's look for a clip, got the person's own. Choose --look donor.")
    if not views:
        return None
    own = replace(settings, seed=face_seed(settings.seed, person), variants=1)
    best: tuple[int, NewLook] | None = None
    for attempt in range(ATTEMPTS):
        one = replace(own, seed=face_seed(own.seed, 0, attempt))
        look = _draw_first(views[0], tools, one, progress)
        if look is None:
            break  # it has been tried from several donors already
        known = sum(_is_known(look, view, tools.recognizers) for view in samples)
        if best is None or known < best[0]:
            best = known, look
        if known == 0:
            break
    return None if best is None else _in_other_poses(best[1], views, tools, own, progress)


def _in_other_poses(
    look: NewLook, views: Sequence[View], tools: DrawingTools, settings: AnonymizeSettings, progress: Progress | None
) -> NewLook:
    first = look.faces[0]
    drawn = [(first, views[0])]
    for view in views[1:]:
        again = _draw_again(first, views[0], view, tools, settings, look, progress)
        if again is not None:
            drawn.append((again, view))
    return replace(look, faces=torch.stack([face for face, _ in drawn]), poses=np.stack([_pose(view) for _, view in drawn]))


def _is_known(look: NewLook, view: View, recognizers: Sequence[FaceRecognizer]) -> bool:
    """Tell whether a recogniser takes a view with the new face for the person, or nearly."""
    originals, crops = _placed(view)
    soft = look.mask_at(_pose(view))[None]
    own, landmarks5 = originals[:1], crop_landmarks(crops)
    lit = match_light(look.at(_pose(view))[None], own, SKIN.on_grid(own.shape[-1]))
    seen = fill_in(own, soft, match_seam(lit, own, soft))
    with torch.no_grad():
        before, after = (embed_all(recognizers, pictures, landmarks5) for pictures in (own, seen))
    return any(
        float((one * other).sum()) >= recognizer.thresholds[FALSE_MATCH_RATE] - SAMPLE_MARGIN
        for one, other, recognizer in zip(before, after, recognizers, strict=True)
    )


def _draw_first(
    view: View, tools: DrawingTools, settings: AnonymizeSettings, progress: Progress | None
) -> NewLook | None:  # fmt: skip
    originals, crops = _placed(view)
    masks = [cut(draw(to_tensor(view.crop), crops.faces), crops) for draw in settings.masks_to_try()]
    try:
        drawn, taken, _ = draw_in_masks(
            originals, masks, crops, tools.model, tools.recognizers, settings, detector=tools.detector, progress=progress
        )
    except NumericalError:
        return None
    if 0 not in drawn:
        return None
    chosen = masks[taken[0]][0]
    larger = sorted((mask[0] for mask in masks if float(mask.sum()) > float(chosen.sum())), key=lambda mask: float(mask.sum()))
    return NewLook(drawn[0][0][None], _pose(view)[None], torch.stack([chosen, *larger]))


def _draw_again(
    first: Tensor, first_view: View, view: View, tools: DrawingTools, settings: AnonymizeSettings, look: NewLook,
    progress: Progress | None,
) -> Tensor | None:  # fmt: skip
    """Draw the first face in another pose: bent, noised, and denoised while the model is told that it is the same face."""
    originals, crops = _placed(view)
    soft = look.mask_at(_pose(view))[None]
    changeable = regeneration_mask(soft)
    bent = bend(first, _pose(first_view), _pose(view))[None]
    model = tools.model

    def tell(given: Tensor, _: FaceCrops, __: Sequence[int]) -> Told:
        return tell_pictures(model, first[None].to(given), fill_in(given, changeable.to(given), bent.to(given)))

    def no_energy(*_: object) -> None:
        raise AssertionError("There is no guidance at strength 0.")

    again = replace(settings, noise=max(POSE_NOISE, settings.noise), strength=0.0)
    results, _ = regenerate_crops(originals, changeable, crops, model, again, no_energy, tell=tell, progress=progress)
    person = see_crops(originals, crops, model, tools.recognizers)
    fitted, verdict = judge_in_place(results, person, soft, tools.detector, faces_alone=False)
    return fitted[0] if bool(verdict.passed[0]) else None


def _placed(view: View) -> tuple[Tensor, FaceCrops]:
    """Return the crop of a view (1, 3, S, S) and its placement."""
    side = view.crop.shape[0]
    return crop_faces(to_tensor(view.crop), Faces((view.face,), 1, side, side), side)


def _pose(view: View) -> FloatArray:
    return (view.landmarks5 + 0.5) / view.crop.shape[0]
