"""Further attempts: one course of steps, unprotected faces only, the best of every face kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from faceprivacy_core.adversarial.attack import AttackReport, AttackSettings
from faceprivacy_core.adversarial.attempts import RELAX, Found, attack_repeatedly
from faceprivacy_core.adversarial.course import Course
from faceprivacy_core.adversarial.goals import Dodge
from faceprivacy_core.adversarial.objective import Objective, Weights
from faceprivacy_core.adversarial.verdict import Verdict
from tests.core.adversarial.toys import THRESHOLDS, objective, scene, sources

STEPS = AttackSettings(iterations=3, learning_rate=0.1)
Judge = Callable[[Tensor], Verdict]


class CancelledError(Exception):
    pass


def never_reached(count: int = 2, **options: object) -> Objective:
    return objective(count, goal=Dodge(sources(scene(count)), THRESHOLDS, margin=1.0), **options)


class Script:
    """A judge that says what it is told, call by call, and remembers what it was shown."""

    def __init__(self, *shortfalls: list[float]) -> None:
        self.shortfalls, self.seen = list(shortfalls), []

    def __call__(self, residuals: Tensor) -> Verdict:
        self.seen.append(residuals.clone())
        shortfall = torch.tensor(self.shortfalls[len(self.seen) - 1])
        return Verdict(shortfall[:, None], shortfall)


def search(of: Objective, judge: Judge, attempts: int = 3, course: Course | None = None, **options: object) -> Found:
    with of:
        return attack_repeatedly(of, STEPS, attempts, judge, course or Course(0, STEPS.iterations, attempts), **options)


def test_only_faces_that_are_not_protected_are_tried_again_and_each_keeps_its_best():
    judge = Script([1.0, 1.0], [-0.4, 0.5], [9.0, 0.6], [9.0, 0.4])
    found = search(never_reached(), judge)
    history = found.history
    assert history.starts == (0, 3, 6)
    assert history.attack.shape == (9, 2)
    assert not bool(history.attack[:3].isnan().any())
    assert bool(history.attack[3:, 0].isnan().all())
    assert not bool(history.attack[3:, 1].isnan().any())
    first, second, third = judge.seen[1:]
    assert torch.equal(found.residuals[0], first[0])
    assert torch.equal(second[0], first[0])
    assert not torch.equal(second[1], first[1])
    assert torch.equal(found.residuals[1], third[1])
    worse = search(never_reached(), Script([1.0, 1.0], [-0.1, 0.5], [9.0, 0.6], [9.0, 0.7]))
    assert torch.equal(worse.residuals[1], first[1])


def test_the_change_counts_less_in_every_further_attempt():
    of = never_reached(1, weights=Weights(1.0, 0.0, change=8.0), budget=1e-4)
    search(of, Script(*[[1.0]] * 4))
    assert of.weights.change == pytest.approx(8.0 * RELAX**2)
    assert of.budget == pytest.approx(1e-4 / RELAX**2)


def test_a_further_attempt_goes_on_where_the_best_is():
    judge = Script([1.0], [0.5], [0.4])
    of = never_reached(1, weights=Weights(1.0, 0.0))
    found = search(of, judge, attempts=2)
    losses = found.history.attack[:, 0]
    assert float(losses[3]) <= float(losses[:3].min()) + 1e-6
    assert not torch.equal(found.latents, of.reference)


def test_a_cancelled_attempt_costs_nothing():
    def cancelling(iteration: int) -> Course:
        def watch(report: AttackReport) -> None:
            if report.iteration == iteration:
                raise CancelledError

        return Course(0, STEPS.iterations, 3, watch=watch)

    with pytest.raises(CancelledError):
        search(never_reached(), Script([1.0, 1.0], [0.5, 0.5]), course=cancelling(4))
    script = [[1.0, 1.0], [0.5, 0.5], [0.6, 0.4]]
    whole = search(never_reached(), Script(*script), attempts=1)
    judge = Script(*script)
    kept = search(never_reached(), judge, course=cancelling(4), keep_best_on_cancel=(CancelledError,))
    assert kept.cancelled
    assert kept.history.starts == (0, 3)
    assert len(kept.history.attack) == 4
    assert torch.equal(kept.residuals[0], whole.residuals[0])
    assert torch.equal(kept.latents[0], whole.latents[0])
    assert torch.equal(kept.residuals[1], judge.seen[2][1])


def test_all_attempts_are_one_course_that_counts_down():
    steps: list[tuple[int, int]] = []
    reports: list[AttackReport] = []
    course = Course(2, 3, 3, lambda step, total, preview=None: steps.append((step, total)), reports.append)
    course.level(1)
    course.level(2)
    search(never_reached(), Script([1.0, 1.0], [0.5, -0.5], [-0.5, 0.0]), course=course)
    assert steps == [(1, 11), (2, 11), *((2 + done, 11) for done in range(1, 7)), (8, 8)]
    assert [report.iteration for report in reports] == [1, 2, 3, 4, 5, 6]
    assert all(report.total == 9 for report in reports)
    assert reports[-1].is_reached.tolist() == [False, True]
    assert torch.equal(reports[-1].similarities[1], reports[2].similarities[1])
    assert not bool(reports[-1].similarities.isnan().any())


def test_an_attempt_that_ends_early_shortens_the_course():
    steps: list[tuple[int, int]] = []
    course = Course(1, 12, 2, lambda step, total, preview=None: steps.append((step, total)))
    easy = AttackSettings(iterations=12, learning_rate=0.1)
    with objective(1) as of:
        found = attack_repeatedly(of, easy, 2, Script([1.0], [0.1], [0.2]), course)
    used = found.history.starts[1]
    assert 0 < used < 12
    assert steps[0] == (2, 25)
    assert steps[used] == (1 + used + 1, 1 + used + 12)
    assert steps[-1][0] == steps[-1][1] == 1 + len(found.history.attack)


def test_without_iterations_nothing_is_tried_again():
    with objective(2) as of:
        found = attack_repeatedly(of, AttackSettings(0), 3, Script([1.0, 1.0], [1.0, 1.0]), Course(0, 0, 3))
        assert torch.equal(found.latents, of.reference)
    assert len(found.history.attack) == 0
    assert float(found.residuals.abs().max()) == 0.0
