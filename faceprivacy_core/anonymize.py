"""Anonymise the faces of pictures: everybody, human or machine, sees somebody else.

Two ways. With donors a generated person's look is told to the model, which draws a whole face at once; several
are drawn and the best is kept. The published way tells it the person's own and pushes the identity away.

Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), anonymisation.
Deviations: donors; choosing among candidates. `Look.PERSON` is the published way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from .auditions import Audition, audition, judge_in_place
from .builtin.donors import rim_of
from .candidates import best_of
from .diffusion.model import Capability, LatentModel, enlarger, require
from .donors import (
    DonorSettings,
    Person,
    choose_donors,
    donor_costs,
    donor_pictures,
    fill_in,
    places_of,
    see_person,
    take_person,
)  # fmt: skip
from .errors import InputError, NumericalError
from .freed import give_back
from .gentle_push import lead_away
from .guidance.build import CombinedEnergy, EnergyWeights, build_energy
from .images import crop_faces, crop_landmarks, cut, paste_faces, take_crops
from .masks import MaskSettings, Region, draw_masks
from .outlines import fit_masks
from .protocols import FaceDetector, FaceRecognizer, Progress
from .regenerate import (
    FACES_AT_A_TIME,
    MakeEnergy,
    RegenerateResult,
    RegenerateSettings,
    Tell,
    Told,
    count_steps,
    in_parts,
    part_of,
    regenerate_crops,
    regenerate_faces,
    regeneration_mask,
    tell_pictures,
)
from .rng import face_seeds
from .types import FaceCrops, Faces

ROUNDS = 3
"""How often new candidates are drawn where none passed."""
LARGER_COST = 1.0
"""Cost of the next larger mask: what can stay of the photograph stays, if a donor fits about as well."""
PLACE_COST = 1.0
"""Cost of every donor that fits better; what is seen of a drawn face alone knows nothing of pose, light and apparent sex."""


class Look(str, Enum):
    """Whose look the model is told."""

    DONOR = "a generated person's"
    PERSON = "the person's own, pushed away"


DrawMasks = Callable[[Tensor, Faces], Tensor]
"""Draws masks (B, 1, H, W) of the faces of pictures (B, 3, H, W)."""


def draws(mask: MaskSettings) -> DrawMasks:
    """Draw masks from landmarks alone."""
    return lambda images, faces: draw_masks(faces, mask)[:, None]


def fits(mask: MaskSettings) -> DrawMasks:
    """Draw masks that leave hair and beard out; see `outlines`."""
    return lambda images, faces: fit_masks(images, faces, mask)


@dataclass(frozen=True)
class AnonymizeSettings(RegenerateSettings):
    """What to do to every face.

    Attributes:
        look: Whose look is told. `published` gives the settings of the paper.
        donors: How a donor is chosen.
        candidates: Faces drawn for each result, of which the best is kept.
        inner_first: With donors, replace the inner face alone where that is enough, so that hair and outline stay; the region
            of `mask` is then the most that is replaced. Of the inner face what hair, beard or a hat covers is tried to be kept
            first; see `outlines`.
        insist: Accept only faces that no recogniser takes for the person; without it the best is taken as it is.
        gentle_push: With `insist`, lead the best candidate away from the person where recognisers find a likeness, so that
            donors may be chosen by how they look in the person's place; see `gentle_push`.
        floor: Similarity to the original below which nothing more is pushed.
        diversity: Weight of the push between variants.
    """

    steps: int = 50
    noise: float = 0.2
    strength: float = 0.0
    look: Look = Look.DONOR
    donors: DonorSettings = field(default_factory=DonorSettings)
    candidates: int = 3
    inner_first: bool = True
    insist: bool = True
    gentle_push: bool = True
    floor: float = 0.0
    diversity: float = 1.0

    @classmethod
    def published(cls, **changes: object) -> AnonymizeSettings:
        """Return the paper's settings, with changes."""
        paper = {"steps": 50, "noise": 0.6, "strength": 1.0, "look": Look.PERSON}
        return cls(**(paper | changes))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.diversity < 0.0:
            raise InputError(f"Expected a diversity >= 0, got {self.diversity}.")
        if self.candidates < 1:
            raise InputError(f"Expected at least one candidate, got {self.candidates}.")

    @property
    def pushes(self) -> bool:
        """Say whether candidates are led away from the person."""
        return self.insist and self.gentle_push

    def masks_to_try(self) -> tuple[DrawMasks, ...]:
        """Return how masks are drawn, the smallest first."""
        inner = replace(self.mask, region=Region.INNER_FACE)
        if not self.inner_first:
            return (draws(self.mask),)
        return (fits(inner), *(draws(mask) for mask in dict.fromkeys((inner, self.mask))))


def anonymize_faces(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: AnonymizeSettings,
    *,
    detector: FaceDetector | None = None,
    progress: Progress | None = None,
) -> RegenerateResult:
    """Replace every given face by one of nobody.

    Args:
        images: (B, 3, H, W) on the CPU, values in [0, 1] or bytes. Not modified.
        faces: Faces to replace; at least one.
        model: Any; donors need the built-in one.
        recognizers: Differentiable recognisers whose identity is pushed away; may be empty at strength 0.
        settings: See `AnonymizeSettings`.
        detector: With donors, says whether a drawn face is one and where; None asks nobody.
        progress: Called after every denoising step.

    Returns, raises, laws: See `regenerate.regenerate_faces`. With donors it also raises `NumericalError` when no candidate of a
        face passed; nothing half-good is returned.
    """
    result, missed = anonymize_where_possible(images, faces, model, recognizers, settings, detector=detector, progress=progress)
    if missed or result is None:
        raise NumericalError(
            "Expected a new face that no recogniser takes for the person and that lies where the old one was, got none for "
            f"face {', '.join(map(str, missed))} in {ROUNDS} rounds of {settings.candidates}. Try another seed, more "
            "candidates, a larger mask, or blur this face."
        )
    return result


def anonymize_where_possible(
    images: Tensor,
    faces: Faces,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: AnonymizeSettings,
    *,
    detector: FaceDetector | None = None,
    progress: Progress | None = None,
) -> tuple[RegenerateResult | None, tuple[int, ...]]:
    """Replace those faces for which a new one passes. Arguments as for `anonymize_faces`.

    Returns:
        The pictures, in which faces without a new one are **as they were**, or None if none has one; and the numbers of
        those faces.
    """
    if settings.look is Look.PERSON:
        return regenerate_faces(images, faces, model, settings, _push_away(recognizers, settings), progress=progress), ()
    originals, crops = crop_faces(images, faces, model.resolution)
    draw = settings.masks_to_try()
    masks = [cut(draw_one(images, faces), crops) for draw_one in draw]
    drawn, taken, energies = draw_in_masks(
        originals, masks, crops, model, recognizers, settings, detector=detector, progress=progress
    )  # fmt: skip
    del originals, masks
    give_back()  # before arrays of the size of the picture are made
    missed = tuple(index for index in range(len(crops)) if index not in drawn)
    if not drawn:
        return None, missed
    kept = take_crops(crops, sorted(drawn))
    whole = torch.zeros(faces.num_images, 1, faces.height, faces.width)
    for number in sorted(set(taken.values())):
        some = take_crops(crops, sorted(index for index in taken if taken[index] == number))
        torch.maximum(whole, draw[number](images, some.faces), out=whole)
    faces_by_variant = torch.stack([drawn[index][variant] for variant in range(settings.variants) for index in sorted(drawn)])
    drawn.clear()
    pasted = paste_faces(images, faces_by_variant, kept, whole, sharpen=True, enlarge=enlarger(model))
    return RegenerateResult(pasted, whole, kept, energies), missed


def draw_in_masks(
    originals: Tensor,
    masks: Sequence[Tensor],
    crops: FaceCrops,
    model: LatentModel,
    recognizers: Sequence[FaceRecognizer],
    settings: AnonymizeSettings,
    *,
    detector: FaceDetector | None = None,
    progress: Progress | None = None,
) -> tuple[dict[int, list[Tensor]], dict[int, int], tuple[float, ...]]:
    """Draw crops anew with donors, each in the mask in which one fits best.

    Args:
        originals: (N, 3, S, S) in [0, 1].
        masks: (N, 1, S, S) each, the smallest first.
        crops: Placement of the crops.
        model, recognizers, settings, detector, progress: See `anonymize_faces`.

    Returns:
        The variants (3, S, S) of every crop for which one passed, the number of its mask, and the mean energies.
    """
    require(model, Capability.DONORS, "new faces with a donor's look")
    person = see_crops(originals, crops, model, recognizers)
    heard = _audition(model, person, masks, settings)
    drawn: dict[int, list[Tensor]] = {}
    taken: dict[int, int] = {}
    energies: tuple[float, ...] = ()
    for choice in _masks_by_cost(heard, settings).T.tolist():
        for number in sorted(set(choice)):
            left = [index for index, chosen in enumerate(choice) if chosen == number and index not in drawn]
            if settings.insist:
                left = [index for index in left if heard[number].passed[index]]
            if not left:
                continue
            results, energies = draw_with_donors(
                take_person(person, left), heard[number].order[left], masks[number][left], take_crops(crops, left), model,
                settings, detector=detector, progress=progress,
            )  # fmt: skip
            for place, index in enumerate(left):
                found = [one for one in results[place :: len(left)] if one is not None]
                if len(found) == settings.variants:
                    drawn[index], taken[index] = found, number
    return drawn, taken, energies


def see_crops(originals: Tensor, crops: FaceCrops, model: LatentModel, recognizers: Sequence[FaceRecognizer]) -> Person:
    """Look at aligned crops (N, 3, S, S) in [0, 1] through recognisers and the model; InputError without recognisers."""
    if not recognizers:
        raise InputError("Expected at least one recogniser, to choose a donor and judge what is drawn, got none.")
    with torch.no_grad():
        latents = in_parts(model.encode, originals.to(model.device))
    return see_person(originals, crop_landmarks(crops), recognizers, latents)


def _audition(model: LatentModel, person: Person, masks: Sequence[Tensor], settings: AnonymizeSettings) -> list[Audition]:
    size = person.latents.shape[-1]
    rim = torch.stack([rim_of(mask, size) for mask in masks]).amax(0)
    costs = donor_costs(model.donors, person, settings.donors, rim)
    return audition(model, person, costs, masks, settings.donors, pushed=settings.pushes)


def _masks_by_cost(heard: Sequence[Audition], settings: AnonymizeSettings) -> Tensor:
    """Return the masks of every face in the order in which they are tried, (N, M), those in which a donor fits best first."""
    cost = torch.stack([one.cost + LARGER_COST * number for number, one in enumerate(heard)], dim=1)
    if settings.insist:
        cost = torch.where(torch.stack([one.passed for one in heard], dim=1), cost, torch.inf)
    return cost.argsort(dim=1, stable=True)


def _push_away(recognizers: Sequence[FaceRecognizer], settings: AnonymizeSettings) -> MakeEnergy:
    weights = EnergyWeights(push_away=1.0, diversity=settings.diversity)

    def make_energy(originals: Tensor, mask: Tensor, crops: FaceCrops) -> CombinedEnergy:
        return build_energy(originals, crops, recognizers, weights, floor=settings.floor)

    return make_energy


def draw_with_donors(
    person: Person,
    ranking: Tensor,
    mask: Tensor,
    crops: FaceCrops,
    model: LatentModel,
    settings: AnonymizeSettings,
    *,
    detector: FaceDetector | None = None,
    progress: Progress | None = None,
) -> tuple[list[Tensor | None], tuple[float, ...]]:
    """Draw aligned crops anew with the look of donors, a few faces at a time; of several candidates the best is kept.

    Args:
        person: N faces.
        ranking: (N, K) donors, the best first.
        mask: (N, 1, S, S) in [0, 1], how much of a drawn crop will be taken; what is judged is what will be seen.
        crops: Placement of the crops.
        model, settings, detector, progress: See `anonymize_faces`.

    Returns:
        V * N crops (3, S, S) in [0, 1], None where no candidate passed, and the mean energy at every guided step.
    """
    count = len(crops)
    seeds = face_seeds(settings.seed, [crop.face.image_index for crop in crops.items], settings.candidates * settings.variants)
    steps = count_steps(model, settings)
    kept: list[Tensor | None] = [None] * (settings.variants * count)
    energies: list[Tensor] = []
    groups = [group.tolist() for group in torch.arange(count).split(FACES_AT_A_TIME)]
    for number, some in enumerate(groups):
        found, course = _draw_some(
            take_person(person, some), ranking[some], mask[some], take_crops(crops, some), model, settings,
            [seeds[turn + index] for turn in range(0, len(seeds), count) for index in some],
            detector, part_of(progress, number * steps, len(groups) * steps),
        )  # fmt: skip
        for place, one in enumerate(found):
            kept[place // len(some) * count + some[place % len(some)]] = one
        energies.append(len(some) / count * torch.tensor(course))
    return kept, tuple(torch.stack(energies).sum(0).tolist())


def _draw_some(
    person: Person,
    ranking: Tensor,
    mask: Tensor,
    crops: FaceCrops,
    model: LatentModel,
    settings: AnonymizeSettings,
    seeds: Sequence[int],
    detector: FaceDetector | None,
    progress: Progress | None,
) -> tuple[list[Tensor | None], tuple[float, ...]]:
    """Draw the faces of one group; `seeds` are those of all their candidates."""
    drawn = replace(settings, variants=settings.candidates * settings.variants)
    changeable = regeneration_mask(mask)
    make_energy = _push_away(person.recognizers, settings)
    kept: list[Tensor | None] = [None] * (settings.variants * len(crops))
    energies: tuple[float, ...] = ()
    for attempt in range(ROUNDS if settings.insist else 1):
        ordered = ranking.roll(-attempt * settings.donors.among, dims=1)
        tell = tell_donors(model, person, ordered, changeable, settings.donors)
        results, energies = regenerate_crops(
            person.crops, changeable, crops, model, drawn, make_energy, tell=tell, seeds=seeds, progress=progress
        )  # fmt: skip
        results, verdict = judge_in_place(results, person, mask, detector)
        fit = verdict.reachable if settings.pushes else verdict.passed if settings.insist else torch.isfinite(verdict.cost)
        chosen = choose_donors(ordered, seeds, settings.donors)
        cost = verdict.cost + PLACE_COST * places_of(chosen, ordered)
        best = best_of(torch.where(fit, cost, torch.inf), len(crops), settings.variants)
        for place, index in enumerate(best.tolist()):
            if kept[place] is not None or not fit[index]:
                continue
            one = results[index].clone()  # not a view that would keep all candidates
            if settings.pushes:
                face = place % len(crops)
                one = lead_away(one, take_person(person, [face]), mask[[face]], model, seeds[index])
            kept[place] = one
        if all(one is not None for one in kept):
            break
    return kept, energies


def tell_donors(model: LatentModel, person: Person, ranking: Tensor, mask: Tensor, settings: DonorSettings) -> Tell:
    """Tell the model donors at every noise level; the drawing starts from them, put into the old surroundings.

    Args:
        model: The built-in model, whose bank is chosen from.
        person: The faces that need donors.
        ranking: (N, K) donors, the best first.
        mask: (N, 1, S, S), 1 where a face may change; nothing of the person is left there.
        settings: How a donor is chosen.
    """

    def tell(originals: Tensor, crops: FaceCrops, seeds: Sequence[int]) -> Told:
        chosen = choose_donors(ranking, seeds, settings)
        pictures = donor_pictures(model, chosen, person, settings)
        return tell_pictures(model, pictures, fill_in(originals, mask.to(originals), pictures))

    return tell
