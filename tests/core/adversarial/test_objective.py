"""Checks 5 to 7 and 12: the lean objective is the released one, checkpoints change nothing, zero is zero."""

import pytest
import torch

from faceprivacy_core.adversarial.agreement import truncated_agreement
from faceprivacy_core.adversarial.levels import predict_noise
from faceprivacy_core.adversarial.objective import Objective, Weights, budget_shares
from faceprivacy_core.adversarial.structure import structure_distance
from faceprivacy_core.adversarial.transforms import Change, TransformSettings, transform_copy
from faceprivacy_core.errors import InputError, UnsupportedModelError
from faceprivacy_core.faces.sight import embed_all
from tests.core.adversarial.toys import LEVELS, RECOGNIZERS, ToyModel, network, objective, tiny_model

DOUBLE = torch.float64


def pushed(of: Objective, size: float = 0.1, seed: int = 3) -> torch.Tensor:
    noise = torch.randn(of.reference.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return (of.reference + size * noise.to(of.reference)).detach().requires_grad_(True)


def gradient(of: Objective, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = of(latents, torch.arange(len(latents))).total
    return total.detach(), torch.autograd.grad(total.sum(), latents)[0]


def four_rows(of: Objective, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The released formulation: reference and attacked latent twice in every call, nothing cached."""
    pair, structure = torch.cat([of.reference, latents]), latents.new_zeros(())
    with of.model.record() as recording:
        for k in range(len(LEVELS), 0, -1):
            cond = of.conditions.tokens[k - 1].expand(4, -1, -1)
            noise = predict_noise(of.model.denoise, torch.cat([pair, pair]), LEVELS[k], cond)[:2]
            pair = pair + (LEVELS[k - 1] - LEVELS[k]) * noise
            maps = recording.take()
            structure = structure + structure_distance([m[3:] for m in maps], [m[2:3] for m in maps])[0]
    decoded = of.model.decode(pair)
    changed = (of.scene.originals + of.scene.mask * (decoded[1:] - decoded[:1])).clamp(0.0, 1.0)
    attack = of.goal.loss(embed_all(RECOGNIZERS, changed, of.scene.landmarks5), torch.zeros(1, dtype=torch.long))
    total = of.weights.attack * attack + of.weights.structure * structure
    return total.detach(), torch.autograd.grad(total.sum(), latents)[0]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (DOUBLE, 1e-10)])
def test_the_lean_objective_equals_the_four_row_one(dtype: torch.dtype, tolerance: float):
    of = objective(1, dtype=dtype, weights=Weights(0.003, 100.0))
    with of:
        lean = gradient(of, latents := pushed(of))
    rows = four_rows(of, latents)
    assert relative_error(lean[0], rows[0]) < tolerance
    assert relative_error(lean[1], rows[1]) < tolerance


@pytest.mark.parametrize("shift", [0, 1])
def test_checkpointing_changes_no_gradient(shift: int):
    results = []
    for checkpointed in (False, True):
        with objective(2, weights=Weights(0.5, 50.0), shift=shift, checkpointed=checkpointed) as of:
            results.append(gradient(of, pushed(of)))
    assert relative_error(results[1][0], results[0][0]) < 1e-5
    assert relative_error(results[1][1], results[0][1]) < 1e-5


def test_at_the_reference_structure_and_its_gradient_are_zero_and_the_picture_is_the_original():
    with objective(2, weights=Weights(1e-9, 1.0)) as of:
        latents = of.reference.clone().requires_grad_(True)
        outcome = of(latents, torch.arange(2))
        (slope,) = torch.autograd.grad(outcome.structure.sum(), latents)
    assert outcome.structure.tolist() == outcome.change.tolist() == [0.0, 0.0]
    assert float(outcome.residuals.detach().abs().max()) == 0.0
    assert float(slope.abs().max()) == 0.0


def test_a_batch_is_the_sum_of_its_faces():
    with objective(2) as both:
        latents = pushed(both)
        together = both(latents, torch.arange(2))
        second = both(latents[1:], torch.tensor([1]))
        torch.testing.assert_close(second.total, together.total[1:], rtol=1e-4, atol=1e-6)
    with objective(2, only=[1]) as one:
        alone = one(latents[1:], torch.tensor([0]))
    torch.testing.assert_close(alone.total, together.total[1:], rtol=1e-4, atol=1e-6)


def test_copies_share_the_loss_and_all_must_reach_the_goal():
    with objective(1, transforms=TransformSettings(copies=3)) as of:
        latents, faces = pushed(of), torch.tensor([0])
        several, again, other = (of(latents, faces, number) for number in (1, 1, 2))
    with objective(1) as of:
        plain = of(latents, faces)
    assert torch.equal(several.attack, again.attack)
    assert not torch.equal(several.attack, other.attack)
    assert not torch.equal(several.attack, plain.attack)
    assert torch.equal(several.similarities, plain.similarities)


def test_copies_alone_make_the_loss_and_its_gradient():
    transforms, faces = TransformSettings(copies=2, kinds=(Change.RESIZE, Change.BLUR)), torch.tensor([0])
    with objective(1, transforms=transforms) as of:
        latents, scene = pushed(of), of.scene
        outcome = of(latents, faces, 5)
        found = torch.autograd.grad(outcome.attack.sum(), latents)[0]
        changed = (scene.originals + scene.mask * of.residuals(of.run(latents, faces)[0], faces)).clamp(0.0, 1.0)
        copies = [transform_copy(changed, scene.seeds, number, transforms) for number in (10, 11)]
        losses = [of.goal.loss(embed_all(RECOGNIZERS, copy, scene.landmarks5), faces) for copy in copies]
    expected = torch.stack(losses).mean(dim=0)
    torch.testing.assert_close(outcome.attack, expected.detach(), rtol=1e-5, atol=1e-6)
    assert relative_error(found, torch.autograd.grad(expected.sum(), latents)[0]) < 1e-4


def test_weights_compose_linearly_and_a_weight_of_zero_records_nothing():
    parts = []
    for weights in (Weights(2.0, 3.0, change=5.0), Weights(2.0, 0.0)):
        with objective(1, weights=weights) as of:
            parts.append(of(pushed(of), torch.tensor([0])))
    full, bare = parts
    torch.testing.assert_close(full.total, 2.0 * full.attack + 3.0 * full.structure + 5.0 * full.change)
    assert bare.structure.tolist() == [0.0]
    torch.testing.assert_close(bare.attack, full.attack)


class MeanDifference:
    def compute_differentiable(self, images: torch.Tensor, references: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (mask * (images - references).abs()).mean(dim=(1, 2, 3))


def test_looks_count_when_they_have_a_weight_and_must_then_be_measured():
    totals = []
    for weight in (0.0, 1.0):
        with objective(1, weights=Weights(1.0, perceptual=weight), perceptual=MeanDifference()) as of:
            totals.append(of(pushed(of), torch.tensor([0])).total)
    assert totals[1] > totals[0]
    with pytest.raises(InputError, match="perceptual network"):
        objective(1, weights=Weights(perceptual=1.0))


@pytest.mark.parametrize("shift", [0, 1])
def test_the_truncated_gradient_is_the_decoders_alone_and_its_agreement_is_reported(shift: int):
    with objective(2, weights=Weights(1.0, 0.0), shift=shift, truncated=True) as of:
        latents = pushed(of)
        _, short = gradient(of, latents)
        clean, _ = of.run(latents, torch.arange(2))
        leaf = clean.detach().requires_grad_(True)
        changed = (of.scene.originals + of.scene.mask * of.residuals(leaf, torch.arange(2))).clamp(0.0, 1.0)
        loss = of.goal.loss(embed_all(RECOGNIZERS, changed, of.scene.landmarks5), torch.arange(2))
        (direct,) = torch.autograd.grad(loss.sum(), leaf)
        cosines = truncated_agreement(of, 0.05)
        assert of.truncated
    assert float(torch.nn.functional.cosine_similarity(short.flatten(), direct.flatten(), dim=0)) > 1.0 - 1e-6
    assert cosines.shape == (2,)
    assert bool((cosines.abs() <= 1.0 + 1e-6).all())


def test_processors_are_back_and_no_gradient_is_left_also_when_the_model_fails():
    model = tiny_model()
    unet = network(model)
    before = {name: id(processor) for name, processor in unet.attn_processors.items()}

    def fail(latents: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    broken = ToyModel(
        model.denoise, model.schedule, model.encode, fail, model.empty, model.resolution, model.record
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError), objective(1, model=broken):
        pass
    with objective(1, model=model) as of:
        gradient(of, pushed(of))
    assert {name: id(processor) for name, processor in unet.attn_processors.items()} == before
    assert all(p.grad is None for p in unet.parameters())


def test_a_model_whose_attention_is_not_recorded_is_refused():
    model, other = tiny_model(), tiny_model()
    deaf = ToyModel(
        model.denoise, model.schedule, model.encode, model.decode, model.empty, model.resolution, other.record
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="recorded no map"), objective(1, model=deaf):
        pass
    with objective(1, model=deaf, weights=Weights(structure=0.0)):
        pass


def test_weights_that_are_none_are_refused():
    for options in ({"attack": 0.0}, {"structure": -1.0}, {"change": -1.0}, {"perceptual": -1.0}, {"attack": float("nan")}):
        with pytest.raises(InputError, match="attack weight above 0"):
            Weights(**options)


def test_a_budget_scales_every_change_that_is_too_large_by_itself():
    generator = torch.Generator().manual_seed(4)
    residuals = torch.randn(2, 3, 8, 8, generator=generator) * torch.tensor([0.1, 0.001]).view(2, 1, 1, 1)
    mask = torch.rand(2, 1, 8, 8, generator=generator)
    shares = budget_shares(residuals, mask, 1e-4)
    within = residuals * shares.view(-1, 1, 1, 1)
    assert shares[1] == 1.0
    assert float((mask * within)[0].pow(2).mean()) == pytest.approx(1e-4, rel=1e-5)
    assert torch.equal(budget_shares(residuals, mask, None), torch.ones(2))


def test_recognisers_see_what_the_budget_leaves():
    of = objective(2, budget=1e-5)
    with of:
        outcome = of(pushed(of, size=1.0), torch.arange(2))
        large = objective(2, budget=1e9)
        with large:
            free = large(pushed(of, size=1.0), torch.arange(2))
    squares = (of.scene.mask * outcome.residuals).pow(2).flatten(1).mean(dim=1)
    torch.testing.assert_close(squares, torch.full((2,), 1e-5))
    assert bool((outcome.change < free.change).all())
    assert bool((outcome.similarities > free.similarities).all())
    with pytest.raises(InputError, match="budget of change above 0"):
        objective(1, budget=0.0)
