"""Learning the empty condition: it lands nearer, face by face, and touches nothing else."""

import pytest
import torch

from faceprivacy_core.adversarial.levels import invert_to_levels
from faceprivacy_core.adversarial.reverse import RELEASED, reverse_step
from faceprivacy_core.adversarial.unconditional import EmptyCondition, EmptyConditions, EmptySettings, find_empty_conditions
from faceprivacy_core.errors import InputError, NumericalError
from tests.core.adversarial.toys import FIXED, LEVELS, CountingModel, ToyModel, encode, network, pictures, tiny_model

WHOLE = {"min_gain": 0.0, "good_enough": 0.0}


def path_of(model: ToyModel, rows: list[int]) -> torch.Tensor:
    return invert_to_levels(model.denoise, encode(pictures(3)[rows]), LEVELS, model.empty)


def learn(rows: list[int], shift: int = 0, **options: object) -> EmptyConditions:
    model = tiny_model()
    return find_empty_conditions(model, path_of(model, rows), LEVELS, EmptySettings(**options), shift=shift)


@pytest.mark.parametrize("shift", [0, RELEASED])
def test_learned_conditions_land_nearer_at_every_level(shift: int):
    found = learn([0, 1], shift, steps=10)
    assert found.tokens.shape == (3, 2, 5, 16)
    assert bool((found.learned_errors <= found.errors).all())
    assert bool((found.learned_errors[1:] < found.errors[1:]).all())  # shifted, the last step removes next to no noise


def test_a_level_starts_from_the_tokens_of_the_level_before_and_goes_on_from_the_latent_they_reached():
    model, faces = tiny_model(), torch.arange(2)
    path = path_of(model, [0, 1])
    found = find_empty_conditions(model, path, LEVELS, EmptySettings(steps=6, **WHOLE))
    empty = model.empty.tokens.expand(2, -1, -1)
    x, before = path[-1], empty
    for k in range(len(LEVELS), 0, -1):

        def error(start: torch.Tensor, tokens: torch.Tensor, level: int = k) -> torch.Tensor:
            landed = reverse_step(model.denoise, start, LEVELS, level, tokens, shift=0)
            return (landed - path[level - 1]).pow(2).flatten(1).mean(dim=1)

        tokens = found.of(k, faces)
        torch.testing.assert_close(found.errors[k - 1], error(x, before), rtol=1e-3, atol=0)
        torch.testing.assert_close(found.learned_errors[k - 1], error(x, tokens), rtol=1e-3, atol=0)
        if k < len(LEVELS):  # the control: neither a cold start nor the inversion's own latent has these errors
            for other in (error(x, empty), error(path[k], before)):
                assert bool(((found.errors[k - 1] / other - 1.0).abs() > 0.01).all())
        x, before = reverse_step(model.denoise, x, LEVELS, k, tokens, shift=0), tokens


def test_a_batch_learns_what_its_faces_learn_alone():
    together = learn([0, 1], steps=4)
    alone = torch.cat([learn([row], steps=4).tokens for row in range(2)], dim=1)
    torch.testing.assert_close(together.tokens, alone, rtol=0, atol=1e-3)


def test_fixed_is_the_models_own_condition_for_all():
    model = tiny_model()
    found = find_empty_conditions(model, path_of(model, [0, 1]), LEVELS, FIXED)
    assert found.tokens.shape == (3, 1, 5, 16)
    assert torch.equal(found.tokens, model.empty.tokens.expand(3, 1, -1, -1))
    assert torch.equal(found.errors, found.learned_errors)
    assert found.of(2, torch.tensor([0, 1])).shape == (2, 5, 16)


def test_a_face_that_is_good_enough_is_not_learned():
    model = tiny_model()
    model.denoise.evaluations = 0
    path = path_of(model, [0])
    learned = find_empty_conditions(model, path, LEVELS, EmptySettings(good_enough=1e9))
    assert model.denoise.evaluations == 3 + 3
    assert torch.equal(learned.tokens[:, 0], model.empty.tokens.expand(3, -1, -1))


def test_the_best_tokens_are_kept_and_the_released_decay_shrinks_them():
    wild = learn([0], learning_rate=30.0, steps=4, **WHOLE)
    assert bool((wild.learned_errors <= wild.errors).all())
    norms = [learn([0], steps=10, weight_decay=decay, **WHOLE).tokens[0].norm() for decay in (0.0, 0.5)]
    assert norms[1] < norms[0]


def test_no_gradient_is_left_and_the_model_is_asked_63_times():
    model = tiny_model()
    path = path_of(model, [0])
    counting = CountingModel(model.denoise)
    counted = ToyModel(counting, model.schedule, encode, model.decode, model.empty, 64, model.record)
    done: list[int] = []
    find_empty_conditions(counted, path, LEVELS, EmptySettings(**WHOLE), progress=done.append)
    assert (counting.forward, counting.backward) == (63, 60)
    assert done == [1, 2, 3]
    assert model.empty.tokens.grad is None
    assert all(p.grad is None and not p.requires_grad for p in network(model).parameters())


def test_works_inside_inference_mode():
    model = tiny_model()
    with torch.inference_mode():
        path = path_of(model, [0])
        found = find_empty_conditions(model, path, LEVELS, EmptySettings(EmptyCondition.LEARNED, steps=2))
    assert not found.tokens.is_inference()


def test_bad_input_is_refused():
    model = tiny_model()
    path = path_of(model, [0])
    with pytest.raises(InputError, match="4 latents, got 3"):
        find_empty_conditions(model, path[:-1], LEVELS, EmptySettings())
    with pytest.raises(InputError, match="declared shift of 0"):
        find_empty_conditions(model, path, LEVELS, EmptySettings(), shift=2)
    with pytest.raises(InputError, match="learned or fixed, got 'other'"):
        EmptySettings("other")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="learning rate above 0"):
        EmptySettings(learning_rate=0.0)
    with pytest.raises(NumericalError, match="level 3 is not finite"):
        find_empty_conditions(model, path * float("nan"), LEVELS, EmptySettings())
