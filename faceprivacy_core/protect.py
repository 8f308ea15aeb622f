"""Protect the faces of pictures in one step: draw new ones, or hide them, and hide those that cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from .anonymize import AnonymizeSettings, anonymize_faces, anonymize_where_possible
from .diffusion.model import LatentModel
from .errors import InputError, NumericalError
from .faces.by_hand import is_guessed
from .images import MIN_EYE_MOUTH_PX, eye_mouth_distance
from .metrics.similarity import compute_similarity, cut_window
from .obscure import Obscuring, obscure_faces
from .pixels import to_pixels
from .protocols import FaceDetector, FaceRecognizer, Progress
from .types import Face, Faces

FALSE_MATCH_RATE = 1e-2
"""A drawn face that a recogniser takes for the original at this rate is not accepted: the lenient one of the two measured,
to leave a margin for recognisers that are not here."""


class Method(str, Enum):
    """What stands in place of a face."""

    NEW_FACE = "new face"
    BLUR = "blur"
    MOSAIC = "mosaic"
    SOLID = "solid"


class Fallback(str, Enum):
    """What is done with a face that is too small to be drawn, whose eyes and mouth no detector finds, or whose new face is
    still recognised."""

    BLUR = "blur"
    MOSAIC = "mosaic"
    SOLID = "solid"
    ERROR = "error"


@dataclass(frozen=True)
class ProtectSettings:
    """How faces are protected.

    Attributes:
        method: For every face that is large enough.
        fallback: For the others; not used where `method` hides faces anyway.
        min_eye_mouth_px: Least distance between eyes and mouth of a face that is drawn, pixels.
        drawing: How new faces are drawn, and the region that is replaced; one variant.
    """

    method: Method = Method.NEW_FACE
    fallback: Fallback = Fallback.BLUR
    min_eye_mouth_px: float = 8.0
    drawing: AnonymizeSettings = field(default_factory=AnonymizeSettings)

    def __post_init__(self) -> None:
        if self.drawing.variants != 1:
            raise InputError(f"Expected one variant, got {self.drawing.variants}.")
        if self.min_eye_mouth_px < MIN_EYE_MOUTH_PX:
            raise InputError(f"Expected a least distance of {MIN_EYE_MOUTH_PX} pixels or more, got {self.min_eye_mouth_px}.")


@dataclass(frozen=True, eq=False)
class ProtectResult:
    """Protected pictures and what was done.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W) in [0, 1] where pixels were replaced.
        methods: What stands in place of every face, in the order of the faces: a value of `Method`.
    """

    images: Tensor
    mask: Tensor
    methods: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DrawingTools:
    """What drawing new faces needs.

    Attributes:
        model: With donors, unless the settings ask for another look.
        recognizers: Push the identity away and judge the result; differentiable, at least one.
        detector: Looks where the new faces are.
    """

    model: LatentModel
    recognizers: Sequence[FaceRecognizer]
    detector: FaceDetector


def protect_faces(
    images: Tensor,
    faces: Faces,
    settings: ProtectSettings,
    load_tools: Callable[[], DrawingTools],
    *,
    progress: Progress | None = None,
) -> ProtectResult:
    """Protect every given face, one way or the other.

    Args:
        images: (B, 3, H, W) on the CPU, values in [0, 1] or bytes. Not modified.
        faces: Faces to protect; none leaves the pictures as they are.
        settings: See `ProtectSettings`.
        load_tools: Called only when a face is drawn.
        progress: Called after every denoising step.

    Returns:
        Pictures of the input's size in which every given face is replaced.

    Raises:
        InputError: A face is too small or its landmarks are guessed, and the fallback is an error.
        NumericalError: A new face is still recognised, or could not be drawn, and the fallback is an error.

    Laws: outside the mask nothing changes; the same seed gives the same result.
    """
    if settings.method is not Method.NEW_FACE:
        return _obscured(
            images, faces, range(len(faces)), Obscuring(settings.method.value), settings, _untouched(images, faces)
        )
    guessed = {index for index, face in enumerate(faces.items) if is_guessed(face)}
    if guessed and settings.fallback is Fallback.ERROR:
        raise InputError(
            f"Expected faces in which a detector finds eyes and mouth, got face {min(guessed)}, painted by hand: a new face "
            "could not be checked. Set the fallback to blur, mosaic or solid."
        )
    is_large = [eye_mouth_distance(face) >= settings.min_eye_mouth_px for face in faces.items]
    large = [index for index in range(len(faces)) if is_large[index] and index not in guessed]
    small = [index for index in range(len(faces)) if index not in large]
    if small and settings.fallback is Fallback.ERROR:
        raise InputError(
            f"Expected at least {settings.min_eye_mouth_px:g} pixels between eyes and mouth of every face, got "
            f"{eye_mouth_distance(faces.items[small[0]]):.1f} for face {small[0]}. Enlarge the picture, or set the fallback to "
            "blur, mosaic or solid."
        )
    if large:
        result, refused = _drawn(images, faces, large, settings, load_tools(), progress)
    else:
        result, refused = _untouched(images, faces), []
    hide = sorted({*small, *refused})
    return _obscured(images, faces, hide, Obscuring(settings.fallback.value), settings, result) if hide else result


def _untouched(images: Tensor, faces: Faces) -> ProtectResult:
    return ProtectResult(images, torch.zeros(len(images), 1, *images.shape[-2:]), ("",) * len(faces))


def _drawn(
    images: Tensor,
    faces: Faces,
    chosen: Sequence[int],
    settings: ProtectSettings,
    tools: DrawingTools,
    progress: Progress | None,
) -> tuple[ProtectResult, list[int]]:
    """Draw the chosen faces; return the result and the faces that must not stay so."""
    given = (images, _only(faces, chosen), tools.model, tools.recognizers, settings.drawing)
    try:
        if settings.fallback is Fallback.ERROR:
            drawn, missed = anonymize_faces(*given, detector=tools.detector, progress=progress), ()
        else:
            drawn, missed = anonymize_where_possible(*given, detector=tools.detector, progress=progress)
    except NumericalError:
        if settings.fallback is Fallback.ERROR:
            raise
        drawn, missed = None, ()
    if drawn is None:
        return _untouched(images, faces), list(chosen)
    undrawn = [chosen[number] for number in missed]
    new = [index for index in chosen if index not in undrawn]
    refused = _still_recognised(images, drawn.images, faces, new, tools)
    if refused and settings.fallback is Fallback.ERROR:
        raise NumericalError(
            f"Expected new faces that no recogniser takes for the originals, got {len(refused)} of {len(chosen)} that one does "
            f"(faces {refused}). Try another seed, raise noise, or set the fallback to blur, mosaic or solid."
        )
    methods = tuple(Method.NEW_FACE.value if index in new else "" for index in range(len(faces)))
    return ProtectResult(drawn.images, drawn.mask, methods), sorted({*undrawn, *refused})


def _obscured(
    images: Tensor, faces: Faces, chosen: Sequence[int], how: Obscuring, settings: ProtectSettings, before: ProtectResult
) -> ProtectResult:
    """Hide the chosen faces on top of a result; what is hidden is the original, so that no half-drawn face shines through."""
    hidden, mask = obscure_faces(images, _only(faces, chosen), how, settings.drawing.mask)
    methods = tuple(how.value if index in chosen else done for index, done in enumerate(before.methods))
    return ProtectResult(torch.where(mask > 0, hidden, before.images), torch.maximum(mask, before.mask), methods)


def _still_recognised(
    images: Tensor, drawn: Tensor, faces: Faces, chosen: Sequence[int], tools: DrawingTools
) -> list[int]:  # fmt: skip
    before = [to_pixels(image[None]) for image in images]
    after = [to_pixels(image[None]) for image in drawn]
    found = [tools.detector.detect(picture) for picture in after]
    refused = []
    for index in chosen:
        face = faces.items[index]
        number = face.image_index
        places = [face.landmarks5, *(other.landmarks5 for other in found[number] if _is_near(face, other))]
        original = cut_window(before[number], face.landmarks5)
        windows = [cut_window(after[number], place) for place in places]
        if any(compute_similarity(original, windows, one) >= one.thresholds[FALSE_MATCH_RATE] for one in tools.recognizers):
            refused.append(index)
    return refused


def _is_near(face: Face, other: Face) -> bool:
    distance = face.landmarks5[2] - other.landmarks5[2]
    return float((distance**2).sum() ** 0.5) < face.width / 2.0


def _only(faces: Faces, chosen: Sequence[int]) -> Faces:
    return replace(faces, items=tuple(faces.items[index] for index in chosen))
