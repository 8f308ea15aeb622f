"""Learning of stage tokens: laws on an analytic model, and the built-in model once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.embeddings.denoising import HELD_OUT, Lesson, draw, mean_errors
from faceprivacy_core.embeddings.inversion import StageTokens
from faceprivacy_core.embeddings.learning import LearningReport, LearningSettings, LearningState, TokenLearner
from faceprivacy_core.embeddings.schedule import stage_of
from faceprivacy_core.embeddings.sources import FreeTokens, refined_tokens, repeated_tokens, with_stages
from faceprivacy_core.errors import InputError, NumericalError
from tests.core.embeddings.told import STAGES, WIDTH, ToldDenoiser, ideal_errors, make_task, sample_crop

TOKENS = 2
SETTINGS = LearningSettings(steps=12, learning_rate=0.1, held_out=2, check_every=5, patience=0)


def _free(count: int = 1) -> FreeTokens:
    start = torch.linspace(-0.1, 0.1, TOKENS * WIDTH).view(TOKENS, WIDTH)
    return FreeTokens({"unet": repeated_tokens(start, STAGES, count)})


def _learn(task: Lesson, settings: LearningSettings = SETTINGS) -> LearningState:
    return TokenLearner(task, _free(len(task.latents)), settings).run()


def _assert_same(a: LearningState, b: LearningState) -> None:
    assert (a.step, a.evaluations) == (b.step, b.evaluations)
    assert torch.equal(a.history, b.history)
    assert torch.equal(a.best_errors, b.best_errors)
    assert torch.equal(a.best["unet"].offsets, b.best["unet"].offsets)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters, b.parameters, strict=True))


def test_learning_reaches_the_error_of_the_ideal_denoiser_at_every_stage() -> None:
    task = make_task()
    state = _learn(task, replace(SETTINGS, steps=150))
    ideal = ideal_errors(draw(task, [0], HELD_OUT, SETTINGS.held_out, even=True), STAGES)
    # The best of several looks at two draws may lie a little below what is ideal on average.
    torch.testing.assert_close(state.best_errors[:, 0], ideal, rtol=0.1, atol=1e-3)
    assert bool((state.history[0, :, 0] > 1.25 * ideal).all())


def test_every_stage_gets_as_many_draws_inside_its_own_timesteps() -> None:
    task = make_task(2)
    for even in (False, True):
        draws = draw(task, [0, 1], 7, 3, even=even)
        timesteps = task.schedule.timestep(draws.sigmas).tolist()
        assert [stage_of(t, STAGES) for t in timesteps] == draws.stages.tolist()
        assert torch.bincount(draws.stages).tolist() == [6] * STAGES
        assert torch.bincount(draws.faces).tolist() == [3 * STAGES] * 2


def test_draws_of_a_face_do_not_depend_on_the_others_and_differ_between_updates() -> None:
    task = make_task(2)
    both, alone = draw(task, [0, 1], 4, 2), draw(task, [1], 4, 2)
    assert torch.equal(both.noise[both.faces == 1], alone.noise)
    assert torch.equal(both.sigmas[both.faces == 1], alone.sigmas)
    assert not torch.equal(both.noise[both.faces == 0], alone.noise)
    assert not torch.equal(draw(task, [1], 5, 2).noise, alone.noise)


def test_a_batch_learns_what_its_faces_learn_alone() -> None:
    together = _learn(make_task(3), replace(SETTINGS, patience=1, min_gain=0.02))
    for face in range(3):
        alone = _learn(make_task(1, seeds=[10 + face], first=face), replace(SETTINGS, patience=1, min_gain=0.02))
        torch.testing.assert_close(together.best["unet"].offsets[:, face], alone.best["unet"].offsets[:, 0], rtol=0, atol=1e-4)
        torch.testing.assert_close(together.best_errors[:, face], alone.best_errors[:, 0], rtol=0, atol=1e-4)


def test_the_same_seed_learns_the_same_and_another_does_not() -> None:
    first = _learn(make_task())
    _assert_same(first, _learn(make_task()))
    assert not torch.equal(first.best["unet"].offsets, _learn(make_task(seeds=[99])).best["unet"].offsets)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_micro_batch_does_not_change_the_result(size: int) -> None:
    expected, task = _learn(make_task(2)), replace(make_task(2), micro_batch=size)
    torch.testing.assert_close(_learn(task).best["unet"].offsets, expected.best["unet"].offsets, rtol=0, atol=1e-5)
    assert max(task.model.calls) == min(size, 4 * STAGES)


class CancelledError(Exception):
    """What a host raises."""


@pytest.mark.parametrize("at", [1, 4, 5, 9, 11])
def test_learning_goes_on_as_if_it_had_not_stopped(at: int) -> None:
    expected = _learn(make_task(2))
    assert expected.step == SETTINGS.steps

    def cancel(report: LearningReport) -> None:
        if report.step == at:
            raise CancelledError

    learner = TokenLearner(make_task(2), _free(2), SETTINGS)
    with pytest.raises(CancelledError):
        learner.run(cancel)
    assert learner.state.step == at
    _assert_same(TokenLearner(make_task(2), _free(2), SETTINGS, learner.state).run(), expected)


@pytest.mark.parametrize("calls", [0, 3, 5, 8, 15, 18])
def test_learning_goes_on_after_the_model_raised_inside_an_update_or_a_look(calls: int) -> None:
    class Failing(ToldDenoiser):
        def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
            if len(self.calls) == calls:
                raise CancelledError
            return super().forward(x, sigma, cond)

    learner = TokenLearner(make_task(1, Failing()), _free(), SETTINGS)
    with pytest.raises(CancelledError):
        learner.run()
    _assert_same(TokenLearner(make_task(), _free(), SETTINGS, learner.state).run(), _learn(make_task()))


def test_the_best_tokens_are_kept_and_not_the_last() -> None:
    task = make_task()
    state = _learn(task, replace(SETTINGS, learning_rate=3.0))
    assert bool((state.history[-1] > state.best_errors).any())
    look = (state.history / state.history[0]).mean((1, 2)).argmin()
    assert torch.equal(state.best_errors, state.history[look])
    found = mean_errors(task, state.best, draw(task, [0], HELD_OUT, SETTINGS.held_out, even=True))
    torch.testing.assert_close(found, state.best_errors, rtol=1e-5, atol=1e-6)


def test_a_face_without_progress_stops_and_costs_no_more() -> None:
    task = make_task(2)
    settings = replace(SETTINGS, steps=1000, learning_rate=1e-9, patience=2)
    state = _learn(task, settings)
    assert state.step == 2 * settings.check_every
    assert state.waited.tolist() == [2, 2]
    # Per face: an update uses each stage once; the three looks use each stage `held_out` times.
    assert state.evaluations == 2 * STAGES * (state.step + 3 * settings.held_out) == sum(task.model.calls)


def test_no_step_means_the_first_tokens() -> None:
    state = _learn(make_task(), replace(SETTINGS, steps=0))
    assert torch.equal(state.best["unet"].offsets, _free()()["unet"].offsets)
    assert len(state.history) == 1


def test_progress_hears_of_every_update_with_the_losses_of_its_stages() -> None:
    reports: list[LearningReport] = []
    TokenLearner(make_task(2), _free(2), SETTINGS).run(reports.append)
    assert [report.step for report in reports] == list(range(1, SETTINGS.steps + 1))
    assert all(report.errors.shape == (STAGES, 2) and bool((report.errors > 0).all()) for report in reports)
    assert [len(report.history) for report in reports] == [1] * 5 + [2] * 5 + [3] * 2
    assert {report.learning_rate for report in reports} == {SETTINGS.learning_rate}


def test_no_network_is_left_with_gradients() -> None:
    task = make_task()
    assert task.model.weight.requires_grad  # even then
    _learn(task)
    assert task.model.weight.grad is None


def test_refinement_begins_at_the_encoder_and_fits_into_64_kib() -> None:
    base = torch.randn(1, 21, 768)
    tokens = refined_tokens(base, 10)
    assert torch.equal(tokens.stacked(), base.expand(10, 1, -1, -1))
    noise = 4 * 16 * 16
    assert 2 * (tokens.offsets.numel() + tokens.base.numel() + noise) <= 64 * 1024
    one = StageTokens(torch.ones(1, 2, 1, 4), torch.zeros(2, 3, 4))
    assert with_stages(one, 10).stacked().shape == (10, 2, 3, 4)


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(InputError, match=r"one seed for each of 2 faces.*got 1 seeds"):
        replace(make_task(2), seeds=[1])
    with pytest.raises(InputError, match="learning rate above 0"):
        LearningSettings(learning_rate=0.0)
    with pytest.raises(InputError, match="state of the same token source"):
        TokenLearner(make_task(2), _free(2), SETTINGS, _learn(make_task(1)))
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        TokenLearner(make_task(), _free(), SETTINGS)
    task = make_task()
    broken = replace(task, model=lambda x, sigma, cond: cond.mean((1, 2)).view(-1, 1, 1, 1) * x * torch.inf)
    with pytest.raises(NumericalError, match="left the finite numbers at update 1"):
        _learn(broken)


def test_refined_tokens_of_the_builtin_model_denoise_better_than_the_empty_prompt_at_every_stage() -> None:
    face_model = load_face_model()
    images = sample_crop(face_model.resolution)
    with torch.no_grad():
        latents, base = face_model.autoencoder.encode(images * 2 - 1), face_model.encode_tokens(images)
    task = Lesson(face_model.denoiser, lambda t: t["unet"], face_model.denoiser.schedule, latents, [0], micro_batch=10)
    source = FreeTokens({"unet": refined_tokens(base, task.num_stages)})
    state = TokenLearner(task, source, LearningSettings(steps=3, learning_rate=0.03, held_out=1)).run()
    test = draw(task, [0], -2, 2, even=True)  # neither learned from nor chosen by
    empty = repeated_tokens(face_model.empty_tokens()[0], task.num_stages, 1)
    tokens = (empty, refined_tokens(base, task.num_stages), state.best["unet"])
    told_nothing, encoder, refined = (mean_errors(task, {"unet": entry}, test)[:, 0] for entry in tokens)
    assert bool((refined < told_nothing).all())
    assert float((refined / encoder).mean()) < 1.0
    assert float((state.best_errors / state.history[0]).mean()) < 1.0
