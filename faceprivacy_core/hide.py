"""Hide the visual identity of faces: people see somebody else, recognisers the same person.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), visual identity information hiding.
Deviations: result and original are aligned alike (released: whole frame against aligned
    crop); an ensemble instead of one network, with a ceiling beyond which nothing is gained; more
    noise and an earlier empty prompt (released: 0.8 and 600), which change the looks more;
    optionally a perceptual energy pushes the looks away; 50 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .builtin.model import FaceModel
from .errors import InputError
from .guidance.appearance import LOOK_TARGET
from .guidance.build import HIDE, CombinedEnergy, build_energy
from .protocols import FaceRecognizer, PerceptualNetwork, Progress
from .regenerate import RegenerateResult, RegenerateSettings, regenerate_faces
from .types import FaceCrops, Faces


@dataclass(frozen=True)
class HideSettings(RegenerateSettings):
    """What to do to every face.

    Attributes:
        look_different: Weight of the push away from the looks of the original, against 1 for the
            identity. More of it adds texture.
        look_target: Perceptual distance beyond which nothing is pushed.
        ceiling: Similarity to the original, for recognisers, beyond which nothing is pulled.
    """

    noise: float = 0.9
    switch: float = 800.0
    strength: float = 0.5
    look_different: float = 0.3
    look_target: float = LOOK_TARGET
    ceiling: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.look_different < 0.0 or self.look_target <= 0.0:
            raise InputError(
                f"Expected a look weight >= 0 and a look target above 0, got {self.look_different} and {self.look_target}."
            )
        if not -1.0 < self.ceiling <= 1.0:
            raise InputError(f"Expected a ceiling above -1 and at most 1, got {self.ceiling}.")


def hide_faces(
    images: Tensor,
    faces: Faces,
    model: FaceModel,
    recognizers: Sequence[FaceRecognizer],
    settings: HideSettings,
    *,
    perceptual: Callable[[], PerceptualNetwork] | None = None,
    progress: Progress | None = None,
) -> RegenerateResult:
    """Replace the looks of every given face and keep its identity for recognisers.

    Args:
        images: (B, 3, H, W) in [0, 1] on the CPU. Not modified.
        faces: Faces to replace; at least one.
        model: The built-in face model, on any device.
        recognizers: Differentiable recognisers that shall go on recognising the person.
        settings: See `HideSettings`.
        perceptual: Loads the perceptual network; needed unless `look_different` is 0.
        progress: Called after every denoising step.

    Returns, raises, laws: See `regenerate.regenerate_faces`.
    """
    weights = replace(HIDE, look_different=settings.look_different)

    def make_energy(originals: Tensor, mask: Tensor, crops: FaceCrops) -> CombinedEnergy:
        return build_energy(
            originals, crops, recognizers, weights, ceiling=settings.ceiling, look_target=settings.look_target,
            perceptual=perceptual, mask=mask,
        )  # fmt: skip

    return regenerate_faces(images, faces, model, settings, make_energy, progress=progress)
