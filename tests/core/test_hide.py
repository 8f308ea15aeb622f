"""Hiding the visual identity: recognisers go on seeing the person, people do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.anonymize import AnonymizeSettings, anonymize_faces
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.hide import HideSettings, hide_faces
from faceprivacy_core.images import crop_faces
from faceprivacy_core.regenerate import RegenerateResult
from faceprivacy_core.types import Faces
from tests.support.pictures import HEIGHT, WIDTH, faces_in, pictures
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
QUICK = {"steps": 10, "noise": 0.9, "refine": 0}
FULL = {"ceiling": 1.0}


class FineDifference:
    """Mean absolute difference of the fine detail, which the toy recognisers do not see."""

    def compute_differentiable(self, images: Tensor, references: Tensor, mask: Tensor | None = None) -> Tensor:
        fine = [x - F.avg_pool2d(x, 9, 1, 4) for x in (images, references)]
        weight = torch.ones_like(images[:, :1]) if mask is None else mask
        return ((fine[0] - fine[1]).abs() * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def run(model: FaceModel, **settings: object) -> RegenerateResult:
    chosen = HideSettings.published(**({"look_target": 0.5, "look_different": 1.0, "strength": 1.0} | QUICK | settings))
    return hide_faces(pictures(1), faces_in(1), model, RECOGNIZERS, chosen, perceptual=FineDifference)


def similarity(model: FaceModel, result: RegenerateResult) -> float:
    crops = [crop_faces(images, faces_in(1), model.resolution)[0] for images in (pictures(1), result.images)]
    seen = [[recognizer.embed(crop, torch.zeros(1, 5, 2)) for recognizer in RECOGNIZERS] for crop in crops]
    return sum(float((a * b).sum()) for a, b in zip(*seen, strict=True)) / len(RECOGNIZERS)


def test_recognisers_see_the_person_only_with_the_energy(model: FaceModel):
    with_energy = similarity(model, run(model, look_different=0.0, **FULL))
    without = similarity(model, run(model, strength=0.0))
    assert 1.0 - with_energy < 0.5 * (1.0 - without)


def test_the_looks_are_pushed_away(model: FaceModel):
    def looks(result: RegenerateResult) -> float:
        return float(FineDifference().compute_differentiable(result.images, pictures(1), result.mask)[0])

    assert looks(run(model, look_different=5.0, **FULL)) > 1.1 * looks(run(model, look_different=0.0, **FULL))


def test_outside_the_mask_nothing_changes_and_inside_it_does(model: FaceModel):
    result = run(model)
    outside = (result.mask == 0).expand_as(result.images)
    assert torch.equal(result.images[outside], pictures(1)[outside])
    inside = (result.mask > 0.9).expand_as(result.images)
    assert float((result.images[inside] - pictures(1)[inside]).abs().mean()) > 0.02


def test_one_seed_gives_one_result_and_another_seed_another(model: FaceModel):
    first = run(model, seed=3)
    assert torch.equal(run(model, seed=3).images, first.images)
    assert not torch.equal(run(model, seed=4).images, first.images)


def test_beyond_the_ceiling_nothing_is_pulled(model: FaceModel):
    free, reached = run(model, strength=0.0), run(model, look_different=0.0, ceiling=-0.99)
    assert torch.equal(free.images, reached.images)
    assert set(reached.energies) == {0.0}


def test_the_network_is_called_once_per_step(model: FaceModel):
    before = model.denoiser.evaluations
    assert len(run(model).energies) == model.denoiser.evaluations - before == 9


def test_the_perceptual_network_is_loaded_only_when_it_counts(model: FaceModel):
    without, pushed = (HideSettings.published(**QUICK, look_different=weight) for weight in (0.0, 1.0))
    hide_faces(pictures(1), faces_in(1), model, RECOGNIZERS, without, perceptual=None)
    with pytest.raises(InputError, match="perceptual"):
        hide_faces(pictures(1), faces_in(1), model, RECOGNIZERS, pushed, perceptual=None)


@pytest.mark.parametrize(
    "settings",
    [{"look_different": -1.0}, {"look_target": 0.0}, {"ceiling": 1.1}, {"ceiling": -1.0}, {"noise": 0.0}, {"candidates": 0}],
)
def test_impossible_settings_are_refused(settings: dict[str, float]):
    with pytest.raises(InputError, match="Expected"):
        HideSettings(**settings)


def test_a_picture_without_a_face_is_refused(model: FaceModel):
    with pytest.raises(NoFaceError):
        hide_faces(pictures(1), Faces((), 1, HEIGHT, WIDTH), model, RECOGNIZERS, HideSettings(), perceptual=FineDifference)


def test_refining_lets_recognisers_see_the_person_more_surely_and_keeps_near_what_was_drawn(model: FaceModel):
    drawn, refined = (run(model, strength=0.0, refine=updates) for updates in (0, 6))
    assert similarity(model, refined) > similarity(model, drawn) + 0.01
    before, after = (crop_faces(result.images, faces_in(1), 256)[0] for result in (drawn, refined))
    assert float((before - after).square().mean()) < 1.1 * 10 ** (-32.0 / 10)
    outside = (refined.mask == 0).expand_as(refined.images)
    assert torch.equal(refined.images[outside], pictures(1)[outside])


def test_every_variant_of_every_face_is_refined_by_itself(model: FaceModel):
    together = hide_variants(model, variants=2, refine=6, seed=4)
    drawn = hide_variants(model, variants=2, refine=0, seed=4)
    assert together.shape == drawn.shape == (4, 3, HEIGHT, WIDTH)
    changed = [not torch.equal(one, other) for one, other in zip(together, drawn, strict=True)]
    assert sum(changed) >= 3, "a face that recognisers see surely enough stays as it was drawn"
    alone = run(model, refine=6, look_different=0.0, strength=0.0, seed=4)
    torch.testing.assert_close(together[0], alone.images[0], rtol=0, atol=2e-3)


def hide_variants(model: FaceModel, **settings: object) -> Tensor:
    chosen = HideSettings.published(**({"strength": 0.0, "look_different": 0.0} | QUICK | settings))
    return hide_faces(pictures(2), faces_in(2), model, RECOGNIZERS, chosen).images


def test_progress_counts_drawing_and_refining_as_one_row_of_steps(model: FaceModel):
    told: list[tuple[int, int]] = []
    chosen = HideSettings.published(**(QUICK | {"refine": 3, "look_different": 0.0}))
    hide_faces(
        pictures(1),
        faces_in(1),
        model,
        RECOGNIZERS,
        chosen,
        progress=lambda step, total, preview=None: told.append((step, total)),
    )
    assert [step for step, _ in told] == list(range(1, 14))
    assert {total for _, total in told} == {9 + 1 + 3}


def test_refining_calls_the_network_once_an_update_and_three_times_to_prepare(model: FaceModel):
    before = model.denoiser.evaluations
    assert len(run(model, refine=4).energies) + 3 + 4 == model.denoiser.evaluations - before


@pytest.mark.parametrize("options", [{"refine": -1}, {"refine_fidelity": 0.0}, {"refine_fidelity": 99.0}])
def test_numbers_of_refining_that_are_none_are_refused(options: dict[str, object]):
    with pytest.raises(InputError, match="Expected"):
        HideSettings(**options)


def test_with_donors_the_updates_begin_at_the_face_that_anonymising_draws(model: FaceModel):
    quick = {"steps": 10, "candidates": 1, "seed": 2}
    strict = tuple(ProjectionRecognizer(name, seed) for name, seed in (("a", 0), ("b", 1)))
    for recognizer in strict:
        recognizer.thresholds = {0.01: 0.99, 0.001: 0.99}  # nobody is seen surely enough
    drawn, refined = (
        hide_faces(pictures(1), faces_in(1), model, strict, HideSettings(**quick, look_different=0.0, refine=updates))
        for updates in (0, 8)
    )
    same = anonymize_faces(pictures(1), faces_in(1), model, strict, AnonymizeSettings(**quick, insist=False))
    assert torch.equal(drawn.images, same.images)
    assert similarity(model, refined) > similarity(model, drawn)
    outside = (refined.mask == 0).expand_as(refined.images)
    assert torch.equal(refined.images[outside], pictures(1)[outside])
