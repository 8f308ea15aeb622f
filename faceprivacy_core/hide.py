"""Hide the visual identity of faces: people see somebody else, recognisers the same person.

Two ways. With donors a generated person's face is drawn first (`anonymize`); a few updates of the latent, within a limit of
the change, then let recognisers see the person in it. The published way draws the face while an energy holds the identity.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), visual identity information hiding.
Deviations: donors, and updates afterwards; `HideSettings.published` is the published way, with these: result and original are
    aligned alike (released: whole frame against aligned crop); an ensemble instead of one network, with a ceiling beyond
    which nothing is gained; more noise and an earlier empty prompt (released: 0.8 and 600), which change the looks more;
    optionally a perceptual energy pushes the looks away; 50 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .adversarial.attack import AttackSettings
from .adversarial.objective import Weights
from .adversarial.settings import DEFAULT_ATTACK
from .adversarial.sight import see_faces
from .anonymize import AnonymizeSettings, Look, anonymize_faces
from .cloak import Aim, CloakSettings, cloak_faces
from .diffusion.model import LatentModel
from .errors import InputError
from .guidance.appearance import LOOK_TARGET
from .guidance.build import HIDE, CombinedEnergy, build_energy
from .masks import draw_masks
from .protocols import FaceDetector, FaceRecognizer, PerceptualNetwork, Progress
from .regenerate import RegenerateResult, RegenerateSettings, count_steps, regenerate_faces
from .types import FaceCrops, Faces


@dataclass(frozen=True)
class HideSettings(RegenerateSettings):
    """What to do to every face.

    On tuning people 041, 045 and 060 the published way with updates gave broken faces (sharpness 0.17, 0.43 and 0.16 of the
    original's), donors with updates whole ones (0.71, 0.98, 0.59), in half the time and known to recognisers alike.

    Attributes:
        look: Whose look the model is told first. `published` gives the settings of the paper.
        candidates: With donors, faces drawn, of which the best is kept.
        look_different: Weight of the push away from the looks of the original, against 1 for the identity, in the published
            way; above 0 the updates keep near the drawn face in a perceptual distance, too.
        look_target: Perceptual distance beyond which nothing is pushed.
        ceiling: Similarity to the original, for recognisers, beyond which nothing is pulled.
        refine: Updates after drawing that let recognisers see the person; 0 leaves them out, which with donors hides the
            person from recognisers, too.
        refine_fidelity: Least PSNR in decibels, of the face crop, of the refined to the drawn picture.
    """

    noise: float = 0.2
    strength: float = 0.0
    look: Look = Look.DONOR
    candidates: int = 3
    look_different: float = 0.3
    look_target: float = LOOK_TARGET
    ceiling: float = 0.7
    refine: int = 20
    refine_fidelity: float = 32.0

    @classmethod
    def published(cls, **changes: object) -> HideSettings:
        """Return the paper's way, with changes."""
        paper = {"noise": 0.95, "switch": 800.0, "strength": 0.5, "look": Look.PERSON}
        return cls(**(paper | changes))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.look_different < 0.0 or self.look_target <= 0.0:
            raise InputError(
                f"Expected a look weight >= 0 and a look target above 0, got {self.look_different} and {self.look_target}."
            )
        if self.candidates < 1:
            raise InputError(f"Expected at least one candidate, got {self.candidates}.")
        if not -1.0 < self.ceiling <= 1.0:
            raise InputError(f"Expected a ceiling above -1 and at most 1, got {self.ceiling}.")
        refinement(self)  # which checks its numbers


def hide_faces(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: HideSettings,
    *,
    detector: FaceDetector | None = None,
    perceptual: Callable[[], PerceptualNetwork] | None = None,
    progress: Progress | None = None,
) -> RegenerateResult:
    """Replace the looks of every given face and keep its identity for recognisers.

    Args:
        images: (B, 3, H, W) in [0, 1] on the CPU. Not modified.
        faces: Faces to replace; at least one.
        model: Any; donors need the built-in one.
        recognizers: Differentiable recognisers that shall go on recognising the person.
        settings: See `HideSettings`.
        detector: With donors, says whether a drawn face is one and where; None asks nobody.
        perceptual: Loads the perceptual network; needed unless `look_different` is 0.
        progress: Called after every denoising step, and every update after them.

    Returns, raises, laws: See `regenerate.regenerate_faces`.
    """
    if settings.refine == 0:
        return _draw(images, faces, model, recognizers, settings, detector, perceptual, progress)
    finish = refinement(settings)
    network = perceptual() if finish.weights.perceptual > 0.0 and perceptual is not None else None
    steps = count_steps(model, settings) + (settings.tokens.updates_for(model) if settings.look is Look.PERSON else 0)
    updates = len(finish.levels) + settings.refine
    drawn = _draw(images, faces, model, recognizers, settings, detector, perceptual, _part(progress, 0, updates))
    person = see_faces(recognizers, images.to(model.device), faces)
    refined = cloak_faces(
        drawn.images, repeat_faces(faces, settings.variants), model, recognizers, finish,
        target=person.repeat(settings.variants), perceptual=network, progress=_part(progress, steps, 0),
    )  # fmt: skip
    return replace(drawn, images=refined.images, mask=draw_masks(faces, settings.mask)[:, None])


def _draw(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: HideSettings,
    detector: FaceDetector | None,
    perceptual: Callable[[], PerceptualNetwork] | None,
    progress: Progress | None,
) -> RegenerateResult:
    if settings.look is Look.DONOR:
        drawing = AnonymizeSettings(
            steps=settings.steps, noise=settings.noise, variants=settings.variants, seed=settings.seed,
            micro_batch=settings.micro_batch, mask=settings.mask, candidates=settings.candidates, insist=False,
        )  # fmt: skip
        return anonymize_faces(images, faces, model, recognizers, drawing, detector=detector, progress=progress)
    weights = replace(HIDE, look_different=settings.look_different)

    def make_energy(originals: Tensor, mask: Tensor, crops: FaceCrops) -> CombinedEnergy:
        return build_energy(
            originals, crops, recognizers, weights, ceiling=settings.ceiling, look_target=settings.look_target,
            perceptual=perceptual, mask=mask,
        )  # fmt: skip

    return regenerate_faces(images, faces, model, settings, make_energy, progress=progress)


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
