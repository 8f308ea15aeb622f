"""Trying faces again that are not clearly protected yet, and keeping the best of every one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from .attack import AttackSettings, History, attack_latents, join_histories
from .course import Course
from .objective import Objective
from .verdict import Verdict

RELAX = 0.7
"""Factor on the weight of the change at every further attempt; its budget is divided by it, 1.5 dB."""

CLEARANCE = 0.3
"""By how much every recogniser shall miss its limit before a face is left alone. Recognisers that were not attacked follow
those that were: of 18 tuning people at 34 dB the two whom a validation recogniser still knew were the two whom a surrogate
missed by less than 0.3."""


@dataclass(frozen=True, eq=False)
class Found:
    """The best result of every face.

    Attributes:
        latents: (N, C, h, w) at the deepest level.
        residuals: (N, 3, V, V) their change of the picture, before the mask.
        history: Course of all attempts.
        cancelled: Whether the work was stopped early and the best so far kept.
    """

    latents: Tensor
    residuals: Tensor
    history: History
    cancelled: bool


def attack_repeatedly(
    objective: Objective,
    settings: AttackSettings,
    attempts: int,
    judge: Callable[[Tensor], Verdict],
    course: Course,
    *,
    keep_best_on_cancel: tuple[type[BaseException], ...] = (),
) -> Found:
    """Attack all faces, then again those that are not clearly protected, each from its best latent so far.

    Between attempts the change counts less, see `RELAX`. An attempt's result replaces that of
    earlier ones only where the finished picture is nearer to protected: the recogniser that is
    least convinced misses its limit by less. So a cancelled attempt costs nothing.

    Args:
        objective: Open; its weight and budget of the change are relaxed here.
        settings: Of every attempt.
        attempts: At most.
        judge: Says how well changes (N, 3, V, V) of all faces protect.
        course: Told every step.
        keep_best_on_cancel: See `attack_latents`.
    """
    latents, residuals = objective.reference, torch.zeros_like(objective.scene.originals)
    shortfall, histories, cancelled = judge(residuals).shortfall, [], False
    is_open = torch.ones(len(latents), dtype=torch.bool)
    for attempt in range(attempts):
        faces = is_open.nonzero().flatten().tolist()
        if attempt:
            objective.relax(RELAX)
        course.begin(faces, latents)
        found = attack_latents(
            objective, settings, faces=faces, start=latents, progress=course.iteration, keep_best_on_cancel=keep_best_on_cancel
        )
        course.end()
        histories.append(found.history)
        cancelled = found.cancelled
        tried = judge(_choose(is_open, found.residuals, residuals)).shortfall
        better = is_open & (tried < shortfall)
        latents, residuals = _choose(better, found.latents, latents), _choose(better, found.residuals, residuals)
        shortfall = torch.where(better, tried, shortfall)
        is_open = shortfall >= -CLEARANCE
        if cancelled or not bool(is_open.any()) or settings.iterations == 0:
            break
    if not cancelled:
        with suppress(*keep_best_on_cancel):  # it is finished anyway
            course.finish()
    return Found(latents, residuals, join_histories(histories), cancelled)


def _choose(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(which.to(new.device).view(-1, 1, 1, 1), new, old)
