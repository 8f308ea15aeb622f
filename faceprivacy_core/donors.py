"""Which generated person lends a face its look: by pose, skin and apparent sex and age, and never a look-alike.

A condition matters more than guidance: with the tokens of one generated face the built-in model draws
a whole face at once, where a push away from the person drives it off the faces it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .builtin.donors import DonorBank, rim_misfit
from .builtin.model import FaceEncoder
from .errors import InputError
from .faces.sight import embed_all
from .protocols import FaceRecognizer

POSE_UNIT = 0.014
"""Distance of landmarks, as a fraction of the crop's side, that costs as much as SKIN_UNIT."""
SKIN_UNIT = 0.08
SEX_COST, AGE_COST = 10.0, 3.0
"""Cost of an apparent sex or age that is not the person's, times how sure it is."""
VOTE_SHARPNESS = 25.0
"""The more alike a donor is to the person, the more its sex and age count: weights are exp(25 similarity). Chosen on the
bank itself: leaving each donor out in turn, the others say its sex rightly in 97 %, its age (about 50 or more) in 89 %."""
TRAIT_GRID, TRAIT_RIDGE = 4, 100.0
"""Sex and age are read off the latent, averaged over a grid, by ridge regression on the bank: hair and outline tell, and they
stay in the picture. Of 40 photographs (people 000 to 039) it says the sex of 37 as we see it; votes by likeness said 27."""
RIM_COST = 10.0
"""Cost of a donor whose rim fits as badly as the median one's does."""
LOOK_ALIKE_FMR = 0.01
FACE_CENTRE, FACE_RADII = (0.5, 0.57), (0.2, 0.11)
"""Ellipse of skin that colours are matched over: from below the eyes to above the mouth, so that no beard counts; fractions
of the crop's side."""
MAX_CONTRAST = 1.3
MAX_SIDE_LIGHT = 0.5
"""Largest natural logarithm of the gain that side light puts on the edge of a crop."""
DRAWN_AT_ONCE = 8


@dataclass(frozen=True)
class DonorSettings:
    """How a donor is chosen.

    Attributes:
        among: Best fitting donors of which the seed takes one.
        follow_traits: Follow the person's apparent sex and age. Without it they are mixed, which gives away less
            about the person and looks less natural in the same clothes and hair.
        match_colour: Give the donor the mean colour, the contrast and the side light of the person's skin before it is told.
    """

    among: int = 8
    follow_traits: bool = True
    match_colour: bool = True

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
        recognizers: Of which the bank has vectors, too.
        latents: (N, C, h, w) of the crops; None where no model is at hand: then sex and age are voted for by likeness.
    """

    crops: Tensor
    landmarks5: Tensor
    vectors: tuple[Tensor, ...]
    recognizers: tuple[FaceRecognizer, ...]
    latents: Tensor | None = None


def see_person(
    bank: DonorBank,
    crops: Tensor,
    landmarks5: Tensor,
    recognizers: Sequence[FaceRecognizer],
    latents: Tensor | None = None,
) -> Person:
    """Look at faces through those recognisers that the bank knows; without any and without latents, pose and skin choose."""
    known = tuple(recognizer for recognizer in recognizers if recognizer.name in bank.vectors)
    with torch.no_grad():
        vectors = embed_all(known, crops, landmarks5)
    latents = None if latents is None else latents.float().cpu()
    return Person(crops, landmarks5, tuple(part.float().cpu() for part in vectors), known, latents)


def rank_donors(bank: DonorBank, person: Person, settings: DonorSettings, cells: Tensor | None = None) -> Tensor:
    """Order the donors of every face from the best fitting to the worst, (N, D) indices; look-alikes come last.

    The cost is the distance of the landmarks in the aligned crop (pose and proportions), that of the skin's
    colour, the apparent sex and age, and how hair, neck and background fit where the new face ends.

    Args:
        bank: Donors.
        person: Faces that need one.
        settings: How one is chosen.
        cells: (N, 1, h, w), 1 in the cells of the latent that are drawn; None leaves the fit of the rim out.
    """
    side = person.crops.shape[-1]
    likeness = [vectors @ bank.vectors[r.name].T for vectors, r in zip(person.vectors, person.recognizers, strict=True)]
    points = (person.landmarks5.float().cpu() + 0.5) / side
    pose = (points[:, None] - bank.landmarks5[None]).square().sum(-1).mean(-1).sqrt()
    skin = torch.cdist(skin_colour(person.crops.cpu(), person.landmarks5), bank.skin)
    cost = pose / POSE_UNIT + skin / SKIN_UNIT
    if settings.follow_traits and (likeness or person.latents is not None):
        for trait, weight in ((bank.women, SEX_COST), (bank.older, AGE_COST)):
            believed = _vote(trait, likeness) if person.latents is None else read_trait(bank, trait, person.latents)
            cost = cost + weight * (believed[:, None] - trait.float()[None]).abs()
    if cells is not None and person.latents is not None:
        misfit = torch.stack([rim_misfit(bank.latents, z, c) for z, c in zip(person.latents, cells.float().cpu(), strict=True)])
        cost = cost + RIM_COST * misfit / misfit.median(dim=1, keepdim=True).values.clamp(min=1e-6)
    for table, recognizer in zip(likeness, person.recognizers, strict=True):
        cost = torch.where(table > recognizer.thresholds[LOOK_ALIKE_FMR], torch.inf, cost)
    return cost.argsort(dim=1, stable=True)


def _vote(trait: Tensor, likeness: Sequence[Tensor]) -> Tensor:
    votes = (VOTE_SHARPNESS * torch.stack(list(likeness)).mean(0)).softmax(dim=1)
    return votes @ trait.float()


def read_trait(bank: DonorBank, trait: Tensor, latents: Tensor) -> Tensor:
    """Read an apparent trait off latents.

    Args:
        bank: Whose donors show what it looks like.
        trait: (D,) bool of the donors.
        latents: (N, C, h, w).

    Returns:
        (N,) in [0, 1], 1 where the trait is there; 0.5 in doubt, however common it is in the bank.
    """
    known, asked = (F.adaptive_avg_pool2d(z, TRAIT_GRID).flatten(1) for z in (bank.latents, latents))
    mean, spread = known.mean(0), known.std(0).clamp(min=1e-6)
    known, asked = (known - mean) / spread, (asked - mean) / spread
    wanted = trait.float() * 2.0 - 1.0
    weights = torch.linalg.solve(known @ known.T + TRAIT_RIDGE * torch.eye(len(known)), wanted - wanted.mean())
    return ((asked @ (known.T @ weights) + 1.0) / 2.0).clamp(0.0, 1.0)


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


def donor_pictures(model: FaceEncoder, chosen: Tensor, person: Person, settings: DonorSettings) -> Tensor:
    """Draw the chosen donors as crops (R, 3, S, S) in [0, 1], in the person's colours if asked for."""
    device = next(model.autoencoder.parameters()).device
    with torch.no_grad():
        parts = [model.autoencoder.decode(part.to(device)) for part in model.donors.latents[chosen].split(DRAWN_AT_ONCE)]
    pictures = ((torch.cat(parts) + 1.0) / 2.0).clamp(0.0, 1.0)
    if not settings.match_colour:
        return pictures
    originals = person.crops.to(device).repeat(len(chosen) // len(person.crops), 1, 1, 1)
    return match_colour(match_side_light(pictures, originals), originals)


def fill_in(originals: Tensor, mask: Tensor, pictures: Tensor) -> Tensor:
    """Put pictures (V * N, 3, S, S) into N originals where a mask (N, 1, S, S) is 1, variant by variant."""
    variants = len(pictures) // len(originals)
    around, inside = originals.repeat(variants, 1, 1, 1), mask.repeat(variants, 1, 1, 1)
    return inside * pictures + (1.0 - inside) * around


def match_colour(pictures: Tensor, references: Tensor) -> Tensor:
    """Give pictures (B, 3, S, S) mean and spread of every colour of the references' skin; contrast changes by at most 1.3."""
    weight = skin_ellipse(pictures.shape[-1]).to(pictures)

    def moments(images: Tensor) -> tuple[Tensor, Tensor]:
        mean = (images * weight).sum((2, 3), keepdim=True) / weight.sum()
        return mean, ((images - mean).square() * weight).sum((2, 3), keepdim=True).div(weight.sum()).sqrt()

    (mean, spread), (wanted_mean, wanted_spread) = moments(pictures), moments(references)
    contrast = wanted_spread.mean(1, keepdim=True) / spread.mean(1, keepdim=True).clamp(min=1e-3)
    contrast = contrast.clamp(1 / MAX_CONTRAST, MAX_CONTRAST)
    return ((pictures - mean) * contrast + wanted_mean).clamp(0.0, 1.0)


def match_side_light(pictures: Tensor, references: Tensor) -> Tensor:
    """Light pictures (B, 3, S, S) from the side from which the references are lit.

    How much brighter one cheek is than the other is compared, as logarithms; the difference becomes a gain that grows
    evenly from left to right.
    """
    side = pictures.shape[-1]
    weight = skin_ellipse(side).to(pictures)
    x = (torch.arange(side, device=pictures.device, dtype=pictures.dtype) + 0.5) / side - FACE_CENTRE[0]
    left, right = weight * (x < 0), weight * (x > 0)

    def slope(images: Tensor) -> Tensor:
        bright = images.mean(1, keepdim=True)
        means = [(bright * half).sum((1, 2, 3)) / half.sum() for half in (left, right)]
        return means[1].clamp(min=1e-3).log() - means[0].clamp(min=1e-3).log()

    apart = (weight * x.abs()).sum() / weight.sum() * 2.0
    gain = ((slope(references) - slope(pictures)) / apart)[:, None] * x
    return (pictures * gain.clamp(-MAX_SIDE_LIGHT, MAX_SIDE_LIGHT).exp()[:, None, None, :]).clamp(0.0, 1.0)


def skin_ellipse(side: int) -> Tensor:
    """Return (1, 1, side, side), 1 in the middle of an aligned face."""
    axis = (torch.arange(side) + 0.5) / side
    x, y = (axis - FACE_CENTRE[0]) / FACE_RADII[0], (axis - FACE_CENTRE[1]) / FACE_RADII[1]
    return (x[None, :].square() + y[:, None].square() <= 1.0).float()[None, None]


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
