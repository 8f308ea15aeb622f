"""Try donors in a person's place before the model fits one in: that costs a decode and tells most of what matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .blending import keep_tone, match_seam, seam_misfit
from .builtin.model import FaceEncoder
from .candidates import Verdict, judge
from .donors import DonorSettings, Person, donor_pictures, fill_in, light_up, take_person
from .outlines import find_skin, leave_out_covered, outline_misfit
from .protocols import FaceDetector

SHORT_LIST = 20
"""Donors that are tried for every face."""
LISTS = 3
"""Short lists that are tried one after the other where every donor is taken for the person."""
FINALISTS = 6
"""Of them as many are shown to the recognisers at a time, those that fit best first, until one passes."""
PEOPLE_AT_ONCE = 1
"""Faces for which donors are tried together. More would take 140 MB each, and ask recognisers about further donors for one face
because none has passed yet for another."""
FIT_UNIT = 1.0
"""Cost of `donors.donor_costs` (pose, skin, apparent sex and age) that costs as much as `candidates.DRIFT_UNIT`."""
SEAM_UNIT = 0.01
"""Mean difference along the seam that costs as much as `candidates.DRIFT_UNIT`."""
NOBODY_ELSE = 1000.0
"""Cost of look-alikes and the flawed, who stand on the list only where there is nobody else."""
OUTLINE_UNIT = 0.03
"""Part of the rim of the mask that is hair or beard in one of both faces that costs as much as `candidates.DRIFT_UNIT`."""
LIGHT_UNIT = 0.03
"""Mean change by which a donor has to be lit anew that costs as much as `candidates.DRIFT_UNIT`."""


def judge_in_place(
    drawn: Tensor, person: Person, mask: Tensor, detector: FaceDetector | None, *, faces_alone: bool = True
) -> tuple[Tensor, Verdict]:  # fmt: skip
    """Fit faces into their surroundings and judge what will be seen, its seam, too.

    Args:
        drawn: (V * N, 3, S, S) in [0, 1], variant by variant.
        person: The N faces in whose place they stand, and the recognisers who judge.
        mask: (N, 1, S, S) in [0, 1], how much of a face will be taken.
        detector: See `candidates.judge`.
        faces_alone: Leave out hair and background that come in with a face; see `outlines.leave_out_covered`.

    Returns:
        The faces with their colours shifted to meet the surroundings, (V * N, 3, S, S), and the verdict.
    """
    fitted = match_seam(drawn, person.crops, mask)
    rounds = len(drawn) // len(person.crops)
    skin = person.skin.repeat(rounds, 1, 1, 1) * find_skin(fitted.cpu(), person.landmarks5.repeat(rounds, 1, 1))
    fitted = keep_tone(fitted, person.crops, mask, skin)
    taken = leave_out_covered(fitted, person.crops, person.landmarks5, mask) if faces_alone else fitted
    seen = fill_in(person.crops, mask, taken)
    verdict = judge(seen, person.landmarks5, person.vectors, person.recognizers, detector)
    return taken, replace(verdict, cost=verdict.cost + visible_misfit(fitted, person, mask))


def visible_misfit(fitted: Tensor, person: Person, mask: Tensor) -> Tensor:
    """Say how much one sees of where a face ends: seams, hair and beard cut off, (V * N,). Arguments as above."""
    seams = seam_misfit(fitted, person.crops, mask, person.skin).cpu()
    return seams / SEAM_UNIT + outline_misfit(fitted, person.crops, person.landmarks5, mask) / OUTLINE_UNIT


@dataclass(frozen=True, eq=False)
class Audition:
    """What is said of K donors in the places of N people, for one mask.

    Attributes:
        order: (N, K) donors whom no recogniser takes for the person, the best first and then over again. Where there are
            none, those that fit best.
        passed: (N,) bool, whether there are any.
        cost: (N,) of the best of them; where there are none, of the best at all.
    """

    order: Tensor
    passed: Tensor
    cost: Tensor


def audition(
    model: FaceEncoder, person: Person, costs: Tensor, masks: Sequence[Tensor], settings: DonorSettings, *, pushed: bool = False
) -> list[Audition]:  # fmt: skip
    """Order the best ranked donors by how they look in the person's place, as they are, for each of several masks.

    Args:
        model: Whose bank is chosen from.
        person: N faces that need donors.
        costs: (N, D) of `donors.donor_costs`; the donors that cost least are tried.
        masks: Of (N, 1, S, S) in [0, 1], how much of a face will be taken.
        settings: How a donor is chosen.
        pushed: Whether what is drawn will be led away from the person, so that donors pass who come near it; see
            `candidates.REACH`.
    """
    groups = [group.tolist() for group in torch.arange(len(person.crops)).split(PEOPLE_AT_ONCE)]
    heard = [
        _hear_lists(model, take_person(person, group), costs[group], [mask[group] for mask in masks], settings, pushed)
        for group in groups
    ]
    return [_join(of_mask) for of_mask in zip(*heard, strict=True)]


def _hear_lists(
    model: FaceEncoder, person: Person, costs: Tensor, masks: Sequence[Tensor], settings: DonorSettings, pushed: bool
) -> list[Audition]:  # fmt: skip
    """Hear list after list until a donor passes for everybody in one of the masks; the first list where none does."""
    ranked = costs.clamp(max=NOBODY_ELSE).sort(dim=1, stable=True)
    worse = ranked.values - ranked.values[:, :1]
    lists = range(0, min(LISTS * SHORT_LIST, costs.shape[1]), SHORT_LIST)
    heard: list[list[Audition]] = []
    for first in lists:
        some = slice(first, first + SHORT_LIST)
        heard.append(_hear(model, person, ranked.indices[:, some], worse[:, some], masks, settings, pushed))
        if bool(torch.stack([one.passed for one in heard[-1]]).any(0).all()):
            return heard[-1]
    return heard[0]


def _hear(
    model: FaceEncoder,
    person: Person,
    listed: Tensor,
    worse: Tensor,
    masks: Sequence[Tensor],
    settings: DonorSettings,
    pushed: bool,
) -> list[Audition]:  # fmt: skip
    """Look at all who are listed (N, K), each so much worse than the best; ask the recognisers about those that fit best."""
    plain = [donor_pictures(model, chosen, person, replace(settings, match_colour=False)) for chosen in listed.T]
    lit = light_up(torch.cat(plain), person, settings).split(len(listed))
    change = torch.stack([(new - old).abs().mean((1, 2, 3)).cpu() for new, old in zip(lit, plain, strict=True)], dim=1)
    liked = worse / FIT_UNIT + change / LIGHT_UNIT
    people = torch.arange(len(listed))
    heard = []
    for mask in masks:
        shown = [visible_misfit(match_seam(pictures, person.crops, mask), person, mask) for pictures in lit]
        by_look = (torch.stack(shown, dim=1) + liked).argsort(dim=1, stable=True)
        costs, passed = [], []
        for finalists in by_look.split(FINALISTS, dim=1):
            pictures = torch.cat([torch.stack(lit)[places, people] for places in finalists.T])
            _, verdict = judge_in_place(pictures, person, mask, None)
            costs.append(verdict.cost.view(-1, len(listed)).T + liked.gather(1, finalists))
            fit = verdict.reachable if pushed else verdict.passed
            passed.append(fit.view(-1, len(listed)).T)
            if bool(torch.cat(passed, dim=1).any(1).all()):
                break
        asked = by_look[:, : sum(part.shape[1] for part in passed)]
        heard.append(_sum_up(listed.gather(1, asked), torch.cat(costs, dim=1), torch.cat(passed, dim=1)))
    return heard


def _join(parts: Sequence[Audition]) -> Audition:
    """Put what was said of groups of people together; a shorter order goes round."""
    length = max(part.order.shape[1] for part in parts)
    orders = [part.order[:, torch.arange(length) % part.order.shape[1]] for part in parts]
    return Audition(torch.cat(orders), torch.cat([part.passed for part in parts]), torch.cat([part.cost for part in parts]))


def _sum_up(listed: Tensor, cost: Tensor, fits: Tensor) -> Audition:
    counts = fits.sum(1)
    best = torch.where(counts > 0, torch.where(fits, cost, torch.inf).amin(1), cost.amin(1))
    turns = torch.arange(cost.shape[1]) % torch.where(counts > 0, counts, cost.shape[1])[:, None]
    places = torch.where(fits, cost, torch.inf).argsort(dim=1, stable=True)
    return Audition(listed.gather(1, places.gather(1, turns)), counts > 0, best)
