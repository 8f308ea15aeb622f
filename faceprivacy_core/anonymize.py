"""Anonymise the faces of pictures: everybody, human or machine, sees somebody else.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), anonymisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .builtin.model import FaceModel
from .errors import InputError
from .guidance.build import CombinedEnergy, EnergyWeights, build_energy
from .protocols import FaceRecognizer, Progress
from .regenerate import RegenerateResult, RegenerateSettings, regenerate_faces
from .types import FaceCrops, Faces


@dataclass(frozen=True)
class AnonymizeSettings(RegenerateSettings):
    """What to do to every face; defaults are the paper's.

    Attributes:
        floor: Similarity to the original below which nothing more is pushed.
        diversity: Weight of the push between variants.
    """

    floor: float = 0.0
    diversity: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.diversity < 0.0:
            raise InputError(f"Expected a diversity >= 0, got {self.diversity}.")


def anonymize_faces(
    images: Tensor,
    faces: Faces,
    model: FaceModel,
    recognizers: Sequence[FaceRecognizer],
    settings: AnonymizeSettings,
    *,
    progress: Progress | None = None,
) -> RegenerateResult:
    """Replace every given face by one of nobody.

    Args:
        images: (B, 3, H, W) in [0, 1] on the CPU. Not modified.
        faces: Faces to replace; at least one.
        model: The built-in face model, on any device.
        recognizers: Differentiable recognisers whose identity is pushed away; may be empty at strength 0.
        settings: See `AnonymizeSettings`.
        progress: Called after every denoising step.

    Returns, raises, laws: See `regenerate.regenerate_faces`.
    """
    weights = EnergyWeights(push_away=1.0, diversity=settings.diversity)

    def make_energy(originals: Tensor, mask: Tensor, crops: FaceCrops) -> CombinedEnergy:
        return build_energy(originals, crops, recognizers, weights, floor=settings.floor)

    return regenerate_faces(images, faces, model, settings, make_energy, progress=progress)
