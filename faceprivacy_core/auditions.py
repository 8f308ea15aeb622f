"""Try donors in a person's place before the model fits one in: that costs a decode and tells most of what matters."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .blending import match_seam, seam_misfit
from .builtin.model import FaceEncoder
from .candidates import Verdict, judge
from .donors import DonorSettings, Person, donor_pictures, fill_in, light_up
from .protocols import FaceDetector

SHORT_LIST = 12
"""Donors that are tried for every face."""
FIT_PART = 0.5
"""Weight of the order in which the donors stood, from 0 for the first to this for the last on the short list."""
SEAM_UNIT = 0.01
"""Mean difference along the seam that costs as much as `candidates.DRIFT_UNIT`."""
LIGHT_UNIT = 0.03
"""Mean change by which a donor has to be lit anew that costs as much as `candidates.DRIFT_UNIT`."""


def judge_in_place(
    drawn: Tensor, person: Person, mask: Tensor, detector: FaceDetector | None
) -> tuple[Tensor, Verdict]:  # fmt: skip
    """Fit faces into their surroundings and judge what will be seen, its seam, too.

    Args:
        drawn: (V * N, 3, S, S) in [0, 1], variant by variant.
        person: The N faces in whose place they stand, and the recognisers who judge.
        mask: (N, 1, S, S) in [0, 1], how much of a face will be taken.
        detector: See `candidates.judge`.

    Returns:
        The faces with their colours shifted to meet the surroundings, (V * N, 3, S, S), and the verdict.
    """
    fitted = match_seam(drawn, person.crops, mask)
    seen = fill_in(person.crops, mask, fitted)
    verdict = judge(seen, person.landmarks5, person.vectors, person.recognizers, detector)
    return fitted, replace(verdict, cost=verdict.cost + seam_misfit(fitted, person.crops, mask).cpu() / SEAM_UNIT)


def audition(
    model: FaceEncoder, person: Person, ranking: Tensor, mask: Tensor, settings: DonorSettings
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Order the best ranked donors by how they look in the person's place, as they are.

    Args:
        model: Whose bank is chosen from.
        person: N faces that need donors.
        ranking: (N, D) of `donors.rank_donors`.
        mask: (N, 1, S, S) in [0, 1], how much of a face will be taken.
        settings: How a donor is chosen.

    Returns:
        (N, K) indices of those whom no recogniser takes for the person, the best first and then over again; and (N,) whether
        there are any. Where there are none, the row is the short list.
    """
    listed = ranking[:, :SHORT_LIST]
    costs, passed = [], []
    for chosen in listed.T:
        pictures = donor_pictures(model, chosen, person, replace(settings, match_colour=False))
        lit = light_up(pictures, person, settings)
        _, verdict = judge_in_place(lit, person, mask, None)
        costs.append(verdict.cost + (lit - pictures).abs().mean((1, 2, 3)).cpu() / LIGHT_UNIT)
        passed.append(verdict.passed)
    cost, fits = torch.stack(costs, dim=1), torch.stack(passed, dim=1)
    cost = torch.where(fits, cost + FIT_PART * torch.linspace(0, 1, cost.shape[1]), torch.inf)
    counts = fits.sum(1)
    turns = torch.arange(cost.shape[1]) % torch.where(counts > 0, counts, cost.shape[1])[:, None]
    return listed.gather(1, cost.argsort(dim=1, stable=True).gather(1, turns)), counts > 0
