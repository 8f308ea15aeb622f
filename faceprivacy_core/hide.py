"""Hide the visual identity of faces: people see somebody else, recognisers the same person.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), visual identity information hiding.
Deviations: result and original are aligned alike (released: whole frame against aligned
    crop); an ensemble instead of one network, with a ceiling beyond which nothing is gained; more
    noise and an earlier empty prompt (released: 0.8 and 600), which change the looks more;
    optionally a perceptual energy pushes the looks away; 50 steps. Afterwards a few updates of the
    latent at a shallow level, within a limit of the change, let recognisers see the person more surely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .adversarial.attack import AttackSettings
from .adversarial.objective import Weights
from .adversarial.purifier import builtin_purifier
from .adversarial.settings import DEFAULT_ATTACK
from .adversarial.sight import see_faces
from .builtin.model import FaceModel
from .cloak import Aim, CloakSettings, cloak_with
from .diffusion.schedules import ddim_sigmas
from .errors import InputError
from .guidance.appearance import LOOK_TARGET
from .guidance.build import HIDE, CombinedEnergy, build_energy
from .protocols import FaceRecognizer, PerceptualNetwork, Progress
from .regenerate import RegenerateResult, RegenerateSettings, regenerate_faces
from .types import FaceCrops, Faces


@dataclass(frozen=True)
class HideSettings(RegenerateSettings):
    """What to do to every face.

    Refining gives back to recognisers what more noise takes, so the face can be taken deeper. On generated faces 1000 to 1007,
    before faces and recognisers were split (`benchmarks/splits.py`; FaceNet judged, which now only tests), held-out
    matches at the threshold of generated faces, of 24, and LPIPS to the original: noise 0.9 alone 14 and 0.199, 0.95 alone 12
    and 0.211, 0.95 refined 23 and 0.202; the autoencoder alone 19 and 0.098.

    Attributes:
        look_different: Weight of the push away from the looks of the original, against 1 for the
            identity. More of it adds texture.
        look_target: Perceptual distance beyond which nothing is pushed.
        ceiling: Similarity to the original, for recognisers, beyond which nothing is pulled.
        refine: Updates after drawing that let recognisers see the person more surely; 0 leaves them out.
        refine_fidelity: Least PSNR in decibels, of the face crop, of the refined to the drawn picture.
    """

    noise: float = 0.95
    switch: float = 800.0
    strength: float = 0.5
    look_different: float = 0.3
    look_target: float = LOOK_TARGET
    ceiling: float = 0.7
    refine: int = 20
    refine_fidelity: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.look_different < 0.0 or self.look_target <= 0.0:
            raise InputError(
                f"Expected a look weight >= 0 and a look target above 0, got {self.look_different} and {self.look_target}."
            )
        if not -1.0 < self.ceiling <= 1.0:
            raise InputError(f"Expected a ceiling above -1 and at most 1, got {self.ceiling}.")
        refinement(self)  # which checks its numbers


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
        progress: Called after every denoising step, and every update after them.

    Returns, raises, laws: See `regenerate.regenerate_faces`.
    """
    weights = replace(HIDE, look_different=settings.look_different)

    def make_energy(originals: Tensor, mask: Tensor, crops: FaceCrops) -> CombinedEnergy:
        return build_energy(
            originals, crops, recognizers, weights, ceiling=settings.ceiling, look_target=settings.look_target,
            perceptual=perceptual, mask=mask,
        )  # fmt: skip

    if settings.refine == 0:
        return regenerate_faces(images, faces, model, settings, make_energy, progress=progress)
    finish = refinement(settings)
    network = perceptual() if finish.weights.perceptual > 0.0 and perceptual is not None else None
    steps = len(ddim_sigmas(model.denoiser.schedule, settings.steps, settings.noise)) - 1
    updates = len(finish.levels) + settings.refine
    drawn = regenerate_faces(images, faces, model, settings, make_energy, progress=_part(progress, 0, updates))
    person = see_faces(recognizers, images.to(next(model.autoencoder.parameters()).device), faces)
    refined = cloak_with(
        drawn.images, repeat_faces(faces, settings.variants), builtin_purifier(model), recognizers, finish,
        target=person.repeat(settings.variants), perceptual=network, progress=_part(progress, steps, 0),
    )  # fmt: skip
    return replace(drawn, images=refined.images)


REFINE_MARGIN = 0.6
"""How far above its limit a recogniser is pulled."""

REFINE_PERCEPTUAL = 3.0
"""Weight of looking as drawn, where looks count: it avoids smudges, and keeps the looks of the original away."""


def refinement(settings: HideSettings) -> CloakSettings:
    """Return how drawn faces are refined: toward the person they are of.

    Raises:
        InputError: A number is out of range.
    """
    looks = Weights(attack=1.0, structure=0.0, perceptual=REFINE_PERCEPTUAL if settings.look_different > 0.0 else 0.0)
    return CloakSettings(
        attack=AttackSettings(settings.refine, DEFAULT_ATTACK.learning_rate), weights=looks,
        fidelity=settings.refine_fidelity, margin=REFINE_MARGIN, aim=Aim.KEEP, seed=settings.seed, mask=settings.mask,
        attempts=1, require_protection=False,
    )  # fmt: skip


def _part(progress: Progress | None, before: int, after: int) -> Progress | None:
    """Count the steps of a part of the work as those of the whole."""
    if progress is None:
        return None
    return lambda step, total, preview=None: progress(before + step, before + total + after, preview)


def repeat_faces(faces: Faces, times: int) -> Faces:
    """Return the faces of pictures that were repeated, (times * B, ...), one whole batch after the other."""
    count = faces.num_images
    items = [replace(face, image_index=turn * count + face.image_index) for turn in range(times) for face in faces.items]
    return Faces(tuple(items), times * count, faces.height, faces.width)
