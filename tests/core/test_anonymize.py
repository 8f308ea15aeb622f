"""The whole anonymising path on the built-in model with a recogniser a person can compute."""

from dataclasses import replace

import pytest
import torch

from faceprivacy_core import anonymize
from faceprivacy_core.adversarial.sight import see_faces
from faceprivacy_core.anonymize import AnonymizeSettings, anonymize_faces, draw_with_donors, see_crops, tell_donors
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.donors import DonorSettings, rank_donors, see_person
from faceprivacy_core.errors import InputError, NoFaceError, NumericalError
from faceprivacy_core.images import crop_faces, crop_landmarks, cut
from faceprivacy_core.masks import MaskSettings, Region, draw_masks
from faceprivacy_core.recover import invert_faces
from faceprivacy_core.regenerate import regeneration_mask
from faceprivacy_core.rng import face_seeds, seeded_noise
from faceprivacy_core.types import Faces
from tests.support.faces import synthetic_face
from tests.support.meta_memory import PeakMemory
from tests.support.pictures import HEIGHT, WIDTH, faces_in, pictures
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
QUICK = {"steps": 5, "noise": 0.6}
LEVEL = 1.0 / 255.0


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def run(model: FaceModel, count: int = 1, **settings: object) -> torch.Tensor:
    chosen = AnonymizeSettings.published(**(QUICK | settings))
    return anonymize_faces(pictures(count), faces_in(count), model, RECOGNIZERS, chosen).images


def test_the_face_changes_and_the_rest_does_not(model: FaceModel):
    result = anonymize_faces(pictures(1), faces_in(1), model, RECOGNIZERS, AnonymizeSettings.published(**QUICK))
    outside = (result.mask == 0).expand_as(result.images)
    assert torch.equal(result.images[outside], pictures(1)[outside])
    inside = (result.mask > 0.9).expand_as(result.images)
    assert float((result.images[inside] - pictures(1)[inside]).abs().mean()) > 0.02
    assert 0.0 <= float(result.images.min()) <= float(result.images.max()) <= 1.0


def test_one_seed_gives_one_result_and_another_seed_another(model: FaceModel):
    assert torch.equal(run(model, seed=3), run(model, seed=3))
    assert not torch.equal(run(model, seed=3), run(model, seed=4))


def test_global_random_state_plays_no_part(model: FaceModel):
    torch.manual_seed(1)
    first = run(model)
    torch.manual_seed(2)
    assert torch.equal(first, run(model))


def test_a_batch_equals_its_pictures_alone(model: FaceModel):
    batch = run(model, count=3)
    for index in range(3):
        picture, face = pictures(3)[index : index + 1], faces_in(1, first=index)
        single = anonymize_faces(picture, face, model, RECOGNIZERS, AnonymizeSettings.published(**QUICK)).images
        assert float((batch[index] - single[0]).abs().max()) <= LEVEL


def test_variants_of_one_face_differ(model: FaceModel):
    both = run(model, variants=2)
    assert both.shape[0] == 2
    assert not torch.equal(both[0], both[1])


def test_two_faces_of_one_picture_get_noise_of_their_own(model: FaceModel):
    picture = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    faces = Faces((synthetic_face(60, 90, 90), synthetic_face(180, 90, 90)), 1, HEIGHT, WIDTH)
    result = anonymize_faces(picture, faces, model, RECOGNIZERS, AnonymizeSettings.published(**QUICK)).images
    assert not torch.allclose(result[..., 15:105], result[..., 135:225], atol=0.02)


def test_guidance_lowers_similarity_and_strength_zero_runs_without_recognisers(model: FaceModel):
    """Both from the same noise; what guidance earns is seen by every recogniser it was given."""
    free = anonymize_faces(pictures(1), faces_in(1), model, (), AnonymizeSettings.published(**QUICK, strength=0.0))
    pushed = anonymize_faces(pictures(1), faces_in(1), model, RECOGNIZERS, AnonymizeSettings.published(**QUICK, strength=1.0))
    assert free.energies == ()
    assert len(pushed.energies) == 3
    assert pushed.energies[-1] < pushed.energies[0]
    original, *results = (see_faces(RECOGNIZERS, images, faces_in(1)) for images in (pictures(1), free.images, pushed.images))
    unguided, guided = (original.similarities(result.vectors) for result in results)
    assert bool((guided < unguided).all()), (guided, unguided)


def test_without_recognisers_guidance_is_refused(model: FaceModel):
    with pytest.raises(InputError, match="at least one recogniser"):
        anonymize_faces(pictures(1), faces_in(1), model, (), AnonymizeSettings(**QUICK))


def test_the_network_is_called_once_per_step(model: FaceModel):
    before = model.denoiser.evaluations
    run(model, count=2, variants=2)
    assert model.denoiser.evaluations - before == 3


def test_the_whole_path_evaluates_the_network_no_more_often_than_it_must(model: FaceModel, monkeypatch: pytest.MonkeyPatch):
    rows = []
    forward = model.denoiser.unet.forward
    monkeypatch.setattr(
        model.denoiser.unet,
        "forward",
        lambda sample, *rest, **named: rows.append(len(sample)) or forward(sample, *rest, **named),
    )
    variants, inversion_steps, iterations, steps = 2, 4, 3, 3
    invert_faces(pictures(1), faces_in(1), model, steps=inversion_steps, iterations=iterations)
    run(model, variants=variants)
    assert sum(rows) == inversion_steps * (1 + iterations) + variants * steps


def test_sampling_starts_at_the_noise_level_that_the_model_is_told(model: FaceModel, monkeypatch: pytest.MonkeyPatch):
    """The released code adds noise of one level (0.9166) and begins with the step of another (0.9056)."""
    calls = []
    forward = type(model.denoiser).__call__
    monkeypatch.setattr(
        type(model.denoiser),
        "__call__",
        lambda self, x, sigma, cond: calls.append((x, float(sigma))) or forward(self, x, sigma, cond),
    )
    run(model, strength=0.0)
    original, _ = crop_faces(pictures(1), faces_in(1), model.resolution)
    with torch.no_grad():
        latent = model.autoencoder.encode(original * 2.0 - 1.0)
    (x, sigma), noise = calls[0], seeded_noise(face_seeds(0, [0], 1), tuple(latent.shape[1:]))
    assert float(((x - latent) / sigma - noise).abs().max()) <= 1e-5
    added = float((x - latent).double().norm() / noise.double().norm())
    assert abs(added / sigma - 1.0) <= 1e-6


def test_no_gradient_is_left_on_any_network(model: FaceModel):
    run(model)
    networks = (model.denoiser.unet, model.autoencoder, model.token_head)
    assert all(p.grad is None and not p.requires_grad for network in networks for p in network.parameters())


def test_cancelling_stops_at_once(model: FaceModel):
    class StoppedError(Exception):
        pass

    def stop(step: int, total: int, preview: object = None) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        anonymize_faces(pictures(1), faces_in(1), model, RECOGNIZERS, AnonymizeSettings.published(**QUICK), progress=stop)


def test_progress_counts_every_step(model: FaceModel):
    seen = []
    anonymize_faces(
        pictures(1), faces_in(1), model, RECOGNIZERS, AnonymizeSettings.published(**QUICK),
        progress=lambda step, total, preview=None: seen.append((step, total, tuple(preview.shape))),
    )  # fmt: skip
    assert seen == [(1, 3, (1, 32, 16, 16)), (2, 3, (1, 32, 16, 16)), (3, 3, (1, 32, 16, 16))]


@pytest.mark.parametrize("region", list(Region))
def test_every_region_fits_into_the_crop(model: FaceModel, region: Region):
    assert torch.isfinite(run(model, mask=MaskSettings(region=region))).all()


def test_the_regeneration_mask_covers_every_touched_pixel():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 0.01
    wide = regeneration_mask(mask)
    assert bool((wide[mask > 0] == 1).all())
    assert set(wide.unique().tolist()) == {0.0, 1.0}


def test_a_picture_without_a_face_is_refused(model: FaceModel):
    with pytest.raises(NoFaceError):
        anonymize_faces(pictures(1), Faces((), 1, HEIGHT, WIDTH), model, RECOGNIZERS, AnonymizeSettings())


def test_no_variant_is_refused():
    with pytest.raises(InputError, match="variant"):
        AnonymizeSettings(variants=0)


DONORS = {"steps": 10, "noise": 0.2, "candidates": 2}
STRANGERS = (ProjectionRecognizer("a", 0),)
STRANGERS[0].thresholds = {0.01: 2.0, 0.001: 2.0}
"""A recogniser that takes nobody for anybody, since colours alone make faces alike to one that sees 16 squares."""


def lend(model: FaceModel, count: int = 1, recognizers: tuple = STRANGERS, **settings: object) -> torch.Tensor:
    chosen = AnonymizeSettings(**(DONORS | settings))
    return anonymize_faces(pictures(count), faces_in(count), model, recognizers, chosen).images


def test_with_donors_the_face_changes_and_the_rest_does_not_and_a_seed_repeats(model: FaceModel):
    result = anonymize_faces(pictures(1), faces_in(1), model, STRANGERS, AnonymizeSettings(**DONORS, seed=3))
    outside = (result.mask == 0).expand_as(result.images)
    assert torch.equal(result.images[outside], pictures(1)[outside])
    inside = (result.mask > 0.9).expand_as(result.images)
    assert float((result.images[inside] - pictures(1)[inside]).abs().mean()) > 0.02
    assert result.energies == ()
    assert torch.equal(lend(model, seed=3), result.images)
    assert not torch.equal(lend(model, seed=4), result.images)


def test_with_donors_a_batch_equals_its_pictures_alone(model: FaceModel):
    batch = lend(model, count=2)
    for index in range(2):
        picture, face = pictures(2)[index : index + 1], faces_in(1, first=index)
        single = anonymize_faces(picture, face, model, STRANGERS, AnonymizeSettings(**DONORS)).images
        assert float((batch[index] - single[0]).abs().max()) <= LEVEL


def test_with_donors_the_network_runs_once_a_step_for_all_candidates(model: FaceModel):
    before = model.denoiser.evaluations
    lend(model, variants=2)
    assert model.denoiser.evaluations - before == 2


def test_many_faces_are_drawn_a_few_at_a_time_and_look_as_if_drawn_together(model: FaceModel, monkeypatch: pytest.MonkeyPatch):
    """Memory grows by what is kept of a face, one crop for each variant, and not by what its candidates take."""
    images = torch.nn.functional.interpolate(pictures(1), (200, 340))
    items = tuple(synthetic_face(60 + 100 * i, 100, 90) for i in range(3))
    settings = AnonymizeSettings(steps=5, noise=0.2, candidates=2, variants=2, insist=False)

    def draw(count: int, at_a_time: int) -> tuple[torch.Tensor, int]:
        monkeypatch.setattr(anonymize, "FACES_AT_A_TIME", at_a_time)
        faces, ranking = Faces(items[:count], 1, 200, 340), torch.arange(8).repeat(count, 1)
        originals, crops = crop_faces(images, faces, model.resolution)
        person, mask = see_crops(originals, crops, model, STRANGERS), cut(draw_masks(faces, MaskSettings())[:, None], crops)
        with PeakMemory() as taken:
            drawn, _ = draw_with_donors(person, ranking, mask, crops, model, settings)
        return torch.stack(drawn), taken.peak

    (_, few), (grouped, many), (together, at_once) = draw(1, 1), draw(3, 1), draw(3, 3)
    assert float((grouped - together).abs().max()) <= LEVEL
    kept = grouped.numel() * grouped.element_size()
    assert many - few <= kept
    assert at_once - few > 2 * kept


def test_nothing_half_good_is_returned_when_every_candidate_is_known(model: FaceModel):
    class KnowsEverybody(ProjectionRecognizer):
        def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.zeros(len(images), dtype=torch.long), 16).float()

    before = model.denoiser.evaluations
    with pytest.raises(NumericalError, match=r"face 0 in 3 rounds of 2"):
        lend(model, recognizers=(KnowsEverybody("k", 0),))
    assert model.denoiser.evaluations == before, "no donor passed, so nothing was drawn"


def test_where_every_drawn_face_is_known_donors_are_tried_in_rounds_and_then_nothing_is_returned(
    model: FaceModel, monkeypatch: pytest.MonkeyPatch
):
    real = anonymize.judge_in_place

    def all_fail(*given: object) -> object:
        results, verdict = real(*given)
        none = torch.zeros_like(verdict.passed)
        return results, replace(verdict, passed=none, reachable=none)

    monkeypatch.setattr(anonymize, "judge_in_place", all_fail)
    before = model.denoiser.evaluations
    with pytest.raises(NumericalError, match=r"face 0 in 3 rounds of 2"):
        lend(model, inner_first=False)
    assert model.denoiser.evaluations - before == 3 * 2
    lend(model, inner_first=False, insist=False)  # which takes the best as it is
    assert model.denoiser.evaluations - before == 4 * 2


def test_the_inner_face_is_replaced_where_it_is_enough_and_more_only_if_not(model: FaceModel):
    class KnowsACheek(ProjectionRecognizer):
        """Takes for the person whoever has the same colour beside the inner face."""

        def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
            shade = (images[:, :, 141, 46].sum(1) * 3000).long() % 97
            return torch.nn.functional.one_hot(shade, 97).float()

    def area(recognizer: ProjectionRecognizer, **settings: object) -> float:
        chosen = AnonymizeSettings(**(DONORS | settings))
        skin = 0.2 * pictures(1) + 0.8 * torch.tensor([0.75, 0.55, 0.47]).view(1, 3, 1, 1)
        return float(anonymize_faces(skin, faces_in(1), model, (recognizer,), chosen).mask.sum())

    inner, wide = (float(draw_masks(faces_in(1), MaskSettings(region)).sum()) for region in (Region.INNER_FACE, Region.FACE))
    assert inner < 0.9 * wide
    assert 0.3 * inner < area(STRANGERS[0]) <= inner
    assert area(STRANGERS[0], inner_first=False) == pytest.approx(wide)
    assert area(KnowsACheek("k", 0), gentle_push=False) == pytest.approx(wide)


def test_inside_the_mask_nothing_of_the_person_reaches_the_drawing(model: FaceModel):
    """Two people of equal surroundings, landmarks and colours get the same face, however they look within."""
    settings = AnonymizeSettings(**DONORS, donors=DonorSettings(match_colour=False))
    originals, crops = crop_faces(pictures(1), faces_in(1), model.resolution)
    mask = torch.zeros(1, 1, model.resolution, model.resolution)
    mask[..., 80:200, 80:176] = 1.0
    latents = model.autoencoder.encode(originals * 2.0 - 1.0).detach()
    person = see_person(originals, crop_landmarks(crops), (), latents)
    ranking = rank_donors(model.donors, person, settings.donors)
    changed = originals + mask * (torch.rand(originals.shape, generator=torch.Generator().manual_seed(0)) - originals)
    told = [tell_donors(model, person, ranking, mask, settings.donors)(inside, crops, [5]) for inside in (originals, changed)]
    torch.testing.assert_close(told[0].start, told[1].start, rtol=0, atol=1e-5)
    torch.testing.assert_close(told[0].inversion.stages, told[1].inversion.stages, rtol=0, atol=1e-5)


def test_no_candidate_is_refused():
    with pytest.raises(InputError, match="candidate"):
        AnonymizeSettings(candidates=0)
