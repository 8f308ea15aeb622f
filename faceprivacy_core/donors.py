"""Which generated person lends a face its look: by pose, skin and apparent sex and age, and never a look-alike.

A condition matters more than guidance: with the tokens of one generated face the built-in model draws
a whole face at once, where a push away from the person drives it off the faces it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .blending import match_light
from .builtin.donors import RIM_COST, SEX_COST, DonorBank, read_trait, read_woman, rim_misfit
from .builtin.model import FaceEncoder
from .errors import InputError
from .faces.sight import embed_all
from .outlines import find_skin
from .ovals import SKIN
from .protocols import FaceRecognizer
from .strands import clear_forehead

POSE_UNIT = 0.004
"""Distance of landmarks, as a fraction of the crop's side, that costs as much as SKIN_UNIT."""
TURN_UNIT = 0.06
"""Difference of `read_turn` that costs as much as POSE_UNIT; twice as much costs four times that."""
SKIN_UNIT = 0.08
AGE_COST = 5.0
"""Cost of an apparent age that is not the person's, times how sure it is; see `builtin.donors.SEX_COST`."""
OLDER_DOUBT = 0.15
"""An old face on a young person looks worse than the reverse, so age takes this much more to be believed."""
WOMAN_TRUST = 0.1
"""A man's face in a woman's hair looks worse than the reverse, so that somebody is a woman takes this much less. Of 75
photographs (people 000 to 074) 72 are read as we see them then: one woman as a man, two men as women."""
ASKED = 20.0
"""What is asked for counts as much more than what is read: only look-alikes stand behind donors who have it not."""
LIKENESS_COST = 5.0
"""Cost of similarity 1 to the person: among donors that fit alike the less similar one."""
LOOK_ALIKE_FMR = 0.01
MIN_LIT = 0.3
"""Part of the cheeks that has to be skin for the rest of them to be left out when light is read off a face."""
_decoded: WeakKeyDictionary[FaceEncoder, dict[int, Tensor]] = WeakKeyDictionary()
"""Donors that a model has decoded, in 8 bits: at most 0.2 MB for each of its bank."""


class Sex(str, Enum):
    """Apparent sex of the donors."""

    LIKE_THE_PERSON = "like the person"
    WOMAN = "a woman"
    MAN = "a man"


class Age(str, Enum):
    """Apparent age of the donors."""

    LIKE_THE_PERSON = "like the person"
    YOUNGER = "below fifty"
    OLDER = "fifty or more"


@dataclass(frozen=True)
class DonorSettings:
    """How a donor is chosen.

    Attributes:
        among: Best fitting donors of which the seed takes one.
        follow_traits: Follow the person's apparent sex and age. Without it they are mixed, which gives away less
            about the person and looks less natural in the same clothes and hair.
        match_colour: Give the donor the colours and the light of the person's face before it is told.
        sex, age: Asked of every donor, whatever is read off the person; the first choice leaves it to `follow_traits`.
    """

    among: int = 4
    follow_traits: bool = True
    match_colour: bool = True
    sex: Sex = Sex.LIKE_THE_PERSON
    age: Age = Age.LIKE_THE_PERSON

    def __post_init__(self) -> None:
        if self.among < 1:
            raise InputError(f"Expected to choose among at least one donor, got {self.among}.")


@dataclass(frozen=True, eq=False)
class Person:
    """What is known of N faces that need a donor.

    Attributes:
        crops: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.
        vectors: Identity vectors (N, E), one tensor for each of `recognizers`.
        recognizers: Who look, surrogates alone.
        latents: (N, C, h, w) of the crops.
    """

    crops: Tensor
    landmarks5: Tensor
    vectors: tuple[Tensor, ...]
    recognizers: tuple[FaceRecognizer, ...]
    latents: Tensor

    @cached_property
    def skin(self) -> Tensor:
        """Where the crops show skin, (N, 1, S, S), 0 or 1."""
        return find_skin(self.crops.cpu(), self.landmarks5)


def see_person(crops: Tensor, landmarks5: Tensor, recognizers: Sequence[FaceRecognizer], latents: Tensor) -> Person:
    """Look at faces through recognisers; see `Person`."""
    with torch.no_grad():
        vectors = embed_all(recognizers, crops, landmarks5)
    return Person(crops, landmarks5, tuple(part.float().cpu() for part in vectors), tuple(recognizers), latents.float().cpu())


def take_person(person: Person, numbers: Sequence[int]) -> Person:
    """Return what is known of some of the faces, in the order of their numbers."""
    picked = torch.tensor(list(numbers), dtype=torch.long)
    vectors = tuple(part[picked] for part in person.vectors)
    return Person(
        person.crops[picked], person.landmarks5[picked], vectors, person.recognizers, person.latents[picked]
    )  # fmt: skip


def rank_donors(bank: DonorBank, person: Person, settings: DonorSettings, rim: Tensor | None = None) -> Tensor:
    """Order the donors of every face from the best fitting to the worst, (N, D) indices; see `donor_costs`."""
    return donor_costs(bank, person, settings, rim).argsort(dim=1, stable=True)


def donor_costs(bank: DonorBank, person: Person, settings: DonorSettings, rim: Tensor | None = None) -> Tensor:
    """Say how badly every donor fits every face, (N, D); infinitely badly if it is a look-alike or flawed.

    The cost is the distance of the landmarks in the aligned crop (pose and proportions), that of the skin's
    colour, the apparent sex and age, and how hair, neck and background fit where the new face ends. Of the recognisers
    those count of which the bank has vectors.

    Args:
        bank: Donors.
        person: Faces that need one.
        settings: How one is chosen.
        rim: (N, 1, h, w) in [0, 1], where a new face ends; see `builtin.donors.rim_of`. None leaves the fit there out.
    """
    side = person.crops.shape[-1]
    seen = zip(person.vectors, person.recognizers, strict=True)
    likeness = [(vectors @ bank.vectors[item.name].T, item) for vectors, item in seen if item.name in bank.vectors]
    points = (person.landmarks5.float().cpu() + 0.5) / side
    pose = (points[:, None] - bank.landmarks5[None]).square().sum(-1).mean(-1).sqrt()
    skin = torch.cdist(skin_colour(person.crops.cpu(), person.landmarks5), bank.skin)
    turn = read_turn(points)[:, None] - read_turn(bank.landmarks5)[None]
    cost = pose / POSE_UNIT + (turn / TURN_UNIT).square() + skin / SKIN_UNIT
    woman = read_woman(bank, person.latents) + WOMAN_TRUST
    older = read_trait(bank, bank.older, person.latents) - OLDER_DOUBT
    looks = (bank.women.float() + read_woman(bank, bank.latents)) / 2.0
    cost = cost + SEX_COST * _misfit_of_trait(bank.women, looks, woman, settings, settings.sex, Sex.WOMAN)
    cost = cost + AGE_COST * _misfit_of_trait(bank.older, bank.older.float(), older, settings, settings.age, Age.OLDER)
    if rim is not None:
        misfit = torch.stack([rim_misfit(bank.latents, z, r) for z, r in zip(person.latents, rim.float().cpu(), strict=True)])
        cost = cost + RIM_COST * misfit / misfit.median(dim=1, keepdim=True).values.clamp(min=1e-6)
    for table, recognizer in likeness:
        cost = cost + LIKENESS_COST * table / len(likeness)
        cost = torch.where(table > recognizer.thresholds[LOOK_ALIKE_FMR], torch.inf, cost)
    cost[:, list(bank.flawed)] = torch.inf
    return cost


def _misfit_of_trait(
    has: Tensor, looks: Tensor, read: Tensor, settings: DonorSettings, asked: Sex | Age, named: Sex | Age
) -> Tensor:  # fmt: skip
    """Say how little a trait of the donors, which has a name, is what is asked or was read off the person.

    Args:
        has: (D,) bool, which donors have it.
        looks: (D,) in [0, 1], how much they look like it; who is hard to read gets a donor who is.
        read: (N,) in [0, 1], how much the person does.
        settings, asked, named: See `DonorSettings`.

    Returns:
        (N, D) or (1, D).
    """
    if asked not in (Sex.LIKE_THE_PERSON, Age.LIKE_THE_PERSON):
        return ASKED * (has.float()[None] - float(asked is named)).abs()
    if not settings.follow_traits:
        return torch.zeros_like(looks)[None]
    return (read[:, None] - looks[None]).abs()


def choose_donors(ranking: Tensor, seeds: Sequence[int], settings: DonorSettings) -> Tensor:
    """Take one of the best fitting donors for every result, (R,) indices.

    Args:
        ranking: (N, D) of `rank_donors`.
        seeds: One for each of R = V * N results, variant by variant; results of one face get different donors
            as long as there are enough.
    """
    count, among = len(ranking), min(settings.among, ranking.shape[1])
    orders = [torch.randperm(among, generator=torch.Generator().manual_seed(seed)) for seed in seeds[:count]]
    chosen = [ranking[i % count, orders[i % count][i // count % among]] for i in range(len(seeds))]
    return torch.stack(chosen)


def places_of(chosen: Tensor, ranking: Tensor) -> Tensor:
    """Say at which place of the rankings (N, D) of N faces the chosen donors (V * N,) stand first, from 0, (V * N,)."""
    rows = ranking.repeat(len(chosen) // len(ranking), 1)
    return (rows == chosen[:, None]).int().argmax(dim=1)


def donor_pictures(model: FaceEncoder, chosen: Tensor, person: Person, settings: DonorSettings) -> Tensor:
    """Draw the chosen donors as crops (R, 3, S, S) in [0, 1], in the person's colours if asked for."""
    drawn = torch.stack([_decode(model, number) for number in chosen.tolist()]).to(model.device)
    return light_up(drawn.float() / 255.0, person, settings)


def _decode(model: FaceEncoder, number: int) -> Tensor:
    """Return a donor (3, S, S) uint8; each alone, so that it is the same whoever else was asked for."""
    known = _decoded.setdefault(model, {})
    if number not in known:
        with torch.no_grad():
            picture = model.decode(model.donors.latents[number : number + 1].to(model.device)).clamp(0.0, 1.0)
        points = model.donors.landmarks5[number : number + 1] * picture.shape[-1] - 0.5
        known[number] = (clear_forehead(picture.cpu(), points)[0] * 255.0).round().to(torch.uint8)
    return known[number]


def light_up(pictures: Tensor, person: Person, settings: DonorSettings) -> Tensor:
    """Give pictures (V * N, 3, S, S) the colours and the light of N people, variant by variant, if the settings ask for it."""
    if not settings.match_colour:
        return pictures
    rounds = len(pictures) // len(person.crops)
    originals, lit = (part.to(pictures).repeat(rounds, 1, 1, 1) for part in (person.crops, find_lit_skin(person)))
    return match_light(pictures, originals, lit)


def find_lit_skin(person: Person) -> Tensor:
    """Say where the light of N faces is read off, (N, 1, S, S), 0 or 1: their cheeks, without sunglasses or hair before them.

    Where little of the cheeks looks like skin, in hard shadow for example, it is all of them.
    """
    cheeks = SKIN.on_grid(person.crops.shape[-1]).float()
    seen = cheeks * person.skin
    believed = seen.sum((1, 2, 3), keepdim=True) >= MIN_LIT * cheeks.sum()
    return torch.where(believed, seen, cheeks)


def fill_in(originals: Tensor, mask: Tensor, pictures: Tensor) -> Tensor:
    """Put pictures (V * N, 3, S, S) into N originals where a mask (N, 1, S, S) is 1, variant by variant."""
    variants = len(pictures) // len(originals)
    around, inside = originals.repeat(variants, 1, 1, 1), mask.repeat(variants, 1, 1, 1)
    return inside * pictures + (1.0 - inside) * around


def read_turn(landmarks5: Tensor) -> Tensor:
    """Say how far heads are turned aside: how far the nose of (N, 5, 2) lies off the middle, in distances between the eyes."""
    eyes, nose, mouth = landmarks5[:, :2], landmarks5[:, 2], landmarks5[:, 3:]
    across = eyes[:, 1] - eyes[:, 0]
    off = nose - (eyes.mean(1) + mouth.mean(1)) / 2.0
    return (off * across).sum(1) / across.square().sum(1).clamp(min=1e-12)


def skin_colour(crops: Tensor, landmarks5: Tensor) -> Tensor:
    """Return the median colour of both cheeks, (N, 3) in [0, 1].

    Args:
        crops: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in their pixels.
    """
    found = []
    for crop, points in zip(crops, landmarks5.double(), strict=True):
        eyes, nose, mouth = points[:2], points[2], points[3:]
        half = max(1, round(0.075 * float((eyes[1] - eyes[0]).norm())))
        cheeks = (eyes + mouth) / 2
        cheeks = (cheeks + 0.2 * (cheeks - nose)).round().long().clamp(half, crop.shape[-1] - 1 - half)
        patches = [crop[:, y - half : y + half + 1, x - half : x + half + 1].flatten(1) for x, y in cheeks.tolist()]
        found.append(torch.cat(patches, dim=1).median(dim=1).values)
    return torch.stack(found)
