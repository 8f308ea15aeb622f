"""Energies put together: linear in the weights, no network without a weight, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from faceprivacy_core.errors import InputError
from faceprivacy_core.guidance.build import ANONYMISE, HIDE, CombinedEnergy, EnergyWeights, build_energy
from faceprivacy_core.guidance.energies import Diversity, IdentityEnergy, PushAway, see_originals
from faceprivacy_core.images import crop_faces
from faceprivacy_core.types import FaceCrops
from tests.core.guidance.toys import RECOGNIZERS, BrightSpots, SquaredDistance, picture
from tests.support.faces import one_face
from tests.support.recognizer import ProjectionRecognizer

NAMES = [field.name for field in fields(EnergyWeights)]
NOTHING = dict.fromkeys(NAMES, 0.0)


def scene(side: int = 64) -> tuple[Tensor, FaceCrops]:
    return crop_faces(picture(side=200), one_face(200, 200), side)


def build(weights: EnergyWeights, **options: object) -> CombinedEnergy:
    options = {"floor": -1.0, "look_target": 1.0, "perceptual": SquaredDistance, "landmarker": BrightSpots} | options
    return build_energy(*scene(), RECOGNIZERS, weights, **options)


def only(name: str, weight: float = 1.0) -> EnergyWeights:
    return EnergyWeights(**(NOTHING | {name: weight}))


def refuse() -> NoReturn:
    pytest.fail("A network without a weight was loaded.")


@pytest.mark.parametrize("variants", [1, 2, 3, 8])
def test_weights_compose_linearly(variants: int):
    images = picture(variants, seed=1)
    weights = {"push_away": 0.5, "diversity": 2.0, "keep_identity": 0.3, "look_different": 1.5, "keep_landmarks": 0.7}
    alone = sum(weight * build(only(name))(images) for name, weight in weights.items())
    torch.testing.assert_close(build(EnergyWeights(**weights))(images), alone)


@pytest.mark.parametrize("name", NAMES)
def test_each_energy_works_alone_and_has_a_gradient(name: str):
    images = picture(2, seed=1).requires_grad_(True)
    values = build(only(name))(images)
    (gradient,) = torch.autograd.grad(values.sum(), images)
    assert values.shape == (2,)
    assert bool((values > 0).all())
    assert bool((gradient.flatten(1).abs().amax(dim=1) > 0).all())
    torch.testing.assert_close(build(only(name, 3.0))(images), 3.0 * values)


@pytest.mark.parametrize("name", ["keep_identity", "keep_landmarks"])
def test_what_is_kept_costs_nothing_at_the_original(name: str):
    originals, _ = scene()
    torch.testing.assert_close(build(only(name))(originals), torch.zeros(1), rtol=0, atol=1e-6)


def test_default_weights_are_the_anonymising_energy_bit_by_bit():
    originals, crops = scene()
    images = picture(3, seed=1)
    landmarks, references = see_originals(originals, crops, RECOGNIZERS)
    terms = (PushAway(references), Diversity(len(crops)))
    expected = IdentityEnergy(RECOGNIZERS, landmarks, originals.shape[-1], terms)(images)
    assert torch.equal(build_energy(originals, crops, RECOGNIZERS)(images), expected)
    assert EnergyWeights() == ANONYMISE
    assert (HIDE.push_away, HIDE.diversity, HIDE.keep_identity) == (0.0, 0.0, 1.0)


def test_networks_without_a_weight_are_not_loaded():
    build(ANONYMISE, perceptual=refuse, landmarker=refuse)
    originals, crops = scene()
    energy = build_energy(originals, crops, (), only("look_different"), perceptual=SquaredDistance, landmarker=refuse)
    assert energy(originals).shape == (1,)


def test_energies_of_identity_share_one_pass_through_the_recognisers():
    passes: list[int] = []

    class Counting(ProjectionRecognizer):
        def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
            passes.append(len(images))
            return super().embed(images, landmarks5)

    energy = build_energy(*scene(), (Counting(),), EnergyWeights(1.0, 1.0, 1.0))
    energy(picture(3))
    assert passes == [1, 3]


def test_looks_beyond_the_target_and_outside_the_mask_gain_nothing():
    originals, _ = scene()
    changed = (originals + 0.5).requires_grad_(True)  # a squared distance of 0.25
    near, far = (build(only("look_different"), look_target=target)(changed) for target in (0.3, 0.2))
    assert float(near.detach()) == pytest.approx(0.05, abs=1e-4)
    far.sum().backward()
    assert float(far.detach()) == float(changed.grad.abs().max()) == 0.0
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1.0
    changed.grad = None
    build(only("look_different"), mask=mask)(changed).sum().backward()
    outside = mask.expand_as(changed) == 0
    assert float(changed.grad[outside].abs().max()) == 0.0
    assert float(changed.grad[~outside].abs().min()) > 0.0


def test_looks_are_compared_at_the_size_of_the_result():
    originals, _ = scene()
    larger = torch.nn.functional.interpolate(originals, (128, 128), mode="bilinear")
    energy = build(only("look_different"), mask=torch.ones(1, 1, 64, 64))
    assert float(energy(larger)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_weights_are_refused_by_name(name: str, value: float):
    with pytest.raises(InputError, match=f"{name} of at least 0"):
        only(name, value)


def test_nothing_to_do_is_refused():
    with pytest.raises(InputError, match="at least one energy with a weight above 0"):
        build(EnergyWeights(**NOTHING))


@pytest.mark.parametrize("name", ["push_away", "look_different", "keep_landmarks"])
def test_crops_of_another_count_are_refused(name: str):
    originals, crops = scene()
    with pytest.raises(InputError, match="Expected 1 original crops"):
        build_energy(
            originals.repeat(2, 1, 1, 1), crops, RECOGNIZERS, only(name), perceptual=SquaredDistance, landmarker=BrightSpots
        )  # fmt: skip


def test_a_network_that_counts_but_is_missing_is_refused():
    with pytest.raises(InputError, match=r"`perceptual`.*look_different is above 0"):
        build(only("look_different"), perceptual=None)
    with pytest.raises(InputError, match=r"`landmarker`.*keep_landmarks is above 0"):
        build(only("keep_landmarks"), landmarker=None)
    with pytest.raises(InputError, match="at least one recogniser"):
        build_energy(*scene(), (), only("keep_identity"))


def test_a_mask_that_does_not_fit_and_an_impossible_target_are_refused():
    with pytest.raises(InputError, match=r"mask of shape \(1, 1, 64, 64\).*got \(1, 1, 32, 32\)"):
        build(only("look_different"), mask=torch.ones(1, 1, 32, 32))
    with pytest.raises(InputError, match="empty one"):
        build(only("look_different"), mask=torch.zeros(1, 1, 64, 64))
    with pytest.raises(InputError, match="target above 0"):
        build(only("look_different"), look_target=0.0)
