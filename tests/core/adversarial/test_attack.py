"""Checks 9 to 11 and 14: the search itself, on real parts with random weights."""

from dataclasses import replace

import pytest
import torch

from faceprivacy_core.adversarial.attack import AttackReport, AttackResult, AttackSettings, attack_latents
from faceprivacy_core.adversarial.goals import Dodge
from faceprivacy_core.adversarial.levels import invert_to_levels
from faceprivacy_core.adversarial.objective import Weights
from faceprivacy_core.adversarial.transforms import TransformSettings
from faceprivacy_core.adversarial.unconditional import EmptySettings
from faceprivacy_core.errors import InputError, NumericalError
from tests.core.adversarial.toys import LEVELS, THRESHOLDS, CountingModel, network, objective, scene, sources, tiny_model

STEPS = AttackSettings(iterations=5, learning_rate=0.1, settle=99)


def attack(count: int = 2, settings: AttackSettings = STEPS, **options: object) -> AttackResult:
    with objective(count, **options) as of:
        return attack_latents(of, settings)


def test_the_loss_falls_and_the_goal_is_reached():
    result = attack(2, replace(STEPS, iterations=12))
    attacks = result.history.attack
    assert attacks.shape == (12, 2)
    assert bool((attacks[-1] < attacks[0]).all())
    assert result.is_reached.tolist() == [True, True]
    assert bool((result.history.similarities[-1] < 0.3).all())


def test_the_latent_stays_within_the_trust_region():
    with objective(2, goal=Dodge(sources(scene(2)), THRESHOLDS, margin=1.0)) as of:
        result = attack_latents(of, STEPS)
        distance = float((result.latents - of.reference).abs().max())
    assert 0.0 < distance <= 5 * 0.1 * 1.05


def test_no_iteration_changes_nothing():
    with objective(2) as of:
        result = attack_latents(of, replace(STEPS, iterations=0))
        assert torch.equal(result.latents, of.reference)
    assert float(result.residuals.abs().max()) == 0.0
    assert result.iterations.tolist() == [0, 0]
    assert result.is_reached.tolist() == [False, False]
    assert len(result.history.attack) == 0


def test_faces_that_are_attacked_a_few_at_a_time_come_out_as_together():
    learned, few = EmptySettings(steps=2), replace(tiny_model(), at_once=1)
    together, apart = (attack(2, empty=learned, model=model) for model in (tiny_model(), few))
    torch.testing.assert_close(apart.latents, together.latents, rtol=0, atol=1e-3)
    torch.testing.assert_close(apart.history.attack, together.history.attack, rtol=0, atol=1e-4)
    assert torch.equal(apart.iterations, together.iterations)


@pytest.mark.parametrize("transforms", [None, TransformSettings()])
def test_a_batch_equals_its_faces_alone(transforms: TransformSettings | None):
    learned = EmptySettings(steps=1)
    together = attack(2, transforms=transforms, empty=learned)
    for row in range(2):
        alone = attack(2, only=[row], transforms=transforms, empty=learned)
        torch.testing.assert_close(together.latents[row], alone.latents[0], rtol=0, atol=1e-3)
        assert together.iterations[row] == alone.iterations[0]


def test_two_runs_are_equal_whatever_the_global_random_state_is():
    options = {"transforms": TransformSettings(), "empty": EmptySettings(steps=1)}
    results = []
    for seed in (1, 2):
        with objective(2, **options) as of:
            torch.manual_seed(seed)
            results.append(attack_latents(of, STEPS))
    assert torch.equal(results[0].latents, results[1].latents)
    assert torch.equal(results[0].residuals, results[1].residuals)


def test_rows_through_the_model_stay_in_the_budget():
    model = tiny_model()
    counting = CountingModel(model.denoise)
    counted = replace(model, denoise=counting)
    whole = EmptySettings(min_gain=0.0, good_enough=0.0)
    with objective(1, model=counted, empty=whole, goal=Dodge(sources(scene(1)), THRESHOLDS, margin=1.0)) as of:
        attack_latents(of, AttackSettings(iterations=30, learning_rate=0.01))
    assert counting.forward == 3 + 63 + 3 + 90 <= 162
    assert counting.backward == 60 + 87 <= 150
    assert all(p.grad is None and not p.requires_grad for p in network(model).parameters())


def test_the_truncated_mode_reaches_the_goal_without_the_models_gradient():
    model = tiny_model()
    counting = CountingModel(model.denoise)
    result = attack(1, replace(STEPS, iterations=12), model=replace(model, denoise=counting), truncated=True)
    assert result.is_reached.tolist() == [True]
    assert counting.backward == 0


def test_a_protected_face_stops_and_settling_goes_on():
    stopped = attack(2, replace(STEPS, iterations=12, settle=0))
    steps = (~stopped.history.attack.isnan()).sum(dim=0)
    assert bool((steps < 12).all())
    assert torch.equal(steps, stopped.iterations)
    settled = attack(2, replace(STEPS, iterations=12, settle=2))
    assert (~settled.history.attack.isnan()).sum(dim=0).tolist() == (steps + 2).tolist()


def test_the_best_iterate_changes_least_among_those_that_reach_the_goal():
    result = attack(2, replace(STEPS, iterations=12), weights=Weights(1.0, 0.0, change=20.0))
    for face in range(2):
        reached = (result.history.similarities[:, face] < THRESHOLDS).all(dim=1)
        change = torch.where(reached, result.history.change[:, face], torch.inf)
        assert int(result.iterations[face]) == int(change.argmin()) + 1


def test_without_success_the_least_attack_loss_is_best():
    result = attack(1, replace(STEPS, iterations=4), goal=Dodge(sources(scene(1)), THRESHOLDS, margin=1.0))
    assert result.is_reached.tolist() == [False]
    assert int(result.iterations[0]) == int(result.history.attack[:, 0].argmin()) + 1


class CancelledError(Exception):
    pass


def stop_at(iteration: int) -> object:
    def progress(report: AttackReport) -> None:
        if report.iteration == iteration:
            raise CancelledError

    return progress


def test_cancelling_keeps_the_best_only_if_asked():
    with objective(1) as of:
        with pytest.raises(CancelledError):
            attack_latents(of, STEPS, progress=stop_at(3))
        kept = attack_latents(of, STEPS, progress=stop_at(3), keep_best_on_cancel=(CancelledError,))
        same = attack_latents(of, replace(STEPS, iterations=3))
    assert kept.cancelled
    assert len(kept.history.attack) == 3
    assert torch.equal(kept.latents, same.latents)
    assert not same.cancelled


def test_progress_is_told_similarities_and_latents():
    seen: list[AttackReport] = []
    with objective(2) as of:
        attack_latents(of, replace(STEPS, iterations=12, settle=0), progress=seen.append)
    assert [report.iteration for report in seen] == list(range(1, len(seen) + 1))
    assert all(report.similarities.shape == (2, 2) and not bool(report.similarities.isnan().any()) for report in seen)
    assert seen[-1].is_reached.tolist() == [True, True]
    assert seen[0].latents.shape == (2, 4, 8, 8)


def test_a_gradient_that_vanishes_is_named():
    model = tiny_model()
    with (
        objective(1, model=replace(model, decode=lambda z: 0.0 * model.decode(z)), weights=Weights(structure=0.0)) as of,
        pytest.raises(NumericalError, match="got 0 everywhere: half precision underflows"),
    ):
        attack_latents(of, STEPS)


def test_a_gradient_that_is_not_finite_is_named():
    model = tiny_model()

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return model.decode(latents) + (latents.detach() - latents).abs().sqrt().mean()

    with (
        objective(1, model=replace(model, decode=decode)) as of,
        pytest.raises(NumericalError, match="got NaN or infinity"),
    ):
        attack_latents(of, STEPS)


def test_works_inside_inference_mode():
    of = objective(1)
    with torch.inference_mode(), of:
        assert attack_latents(of, replace(STEPS, iterations=3)).latents.shape == (1, 4, 8, 8)


def test_the_released_decay_draws_latents_to_zero():
    norms = [attack(1, replace(STEPS, weight_decay=decay)).latents.norm() for decay in (0.0, 0.5)]
    assert norms[1] < norms[0]


def test_bad_settings_are_refused():
    for options in ({"iterations": -1}, {"settle": -1}, {"learning_rate": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(InputError, match="learning rate above 0"):
            AttackSettings(**options)


def test_the_inversion_starts_from_the_deepest_level():
    model = tiny_model()
    with objective(1, model=model) as of:
        path = invert_to_levels(model.denoise, model.encode(of.scene.originals), LEVELS, model.empty)
        assert torch.equal(of.reference, path[-1])


def test_a_latent_that_changes_too_much_is_drawn_back_to_the_budget():
    goal, many = Dodge(sources(scene(2)), THRESHOLDS, margin=1.0), replace(STEPS, iterations=15, learning_rate=0.5)
    found = {}
    for budget in (None, 1e-4):
        with objective(2, goal=goal, budget=budget) as of:
            result = attack_latents(of, many)
            changes = of(result.latents, torch.arange(2))
            found[budget] = result, changes
            assert bool((changes.shares > 0.5).all()), "about at the budget, not far beyond it"
    far, near = ((result.latents - of.reference).abs().amax() for result, _ in found.values())
    assert float(near) < float(far) / 3
    within = (of.scene.mask * found[1e-4][0].residuals).pow(2).flatten(1).mean(dim=1)
    assert bool((within <= 1e-4 * (1 + 1e-5)).all())


def test_within_the_budget_nothing_is_drawn_back():
    goal = Dodge(sources(scene(2)), THRESHOLDS, margin=1.0)
    free, limited = (attack(2, goal=goal, budget=budget) for budget in (None, 1e6))
    assert torch.equal(free.latents, limited.latents)
