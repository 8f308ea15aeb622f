"""The whole cloaking path on the built-in model with recognisers a person can compute."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from faceprivacy_core.adversarial.attack import AttackReport, AttackSettings
from faceprivacy_core.adversarial.objective import Weights
from faceprivacy_core.adversarial.sight import Identities, see_faces
from faceprivacy_core.adversarial.transforms import Change, TransformSettings
from faceprivacy_core.adversarial.unconditional import EmptyCondition, EmptySettings
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.cloak import Aim, CloakResult, CloakSettings, cloak_faces
from faceprivacy_core.errors import InputError, NoFaceError, NumericalError
from faceprivacy_core.images import crop_faces
from faceprivacy_core.types import Faces
from tests.support.faces import synthetic_face
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
QUICK = CloakSettings(
    levels=(0.228,), empty=EmptySettings(EmptyCondition.FIXED), attack=AttackSettings(iterations=3, learning_rate=0.05),
    weights=Weights(1.0, 1.0), transforms=None, attempts=1, require_protection=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def pictures(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 3, 12, 16, generator=generator)
    return torch.nn.functional.interpolate(coarse, (180, 240), mode="bilinear").round(decimals=3)


def faces_in(count: int) -> Faces:
    return Faces(tuple(synthetic_face(110 + 8 * i, 90, 130, image_index=i) for i in range(count)), count, 180, 240)


def run(model: FaceModel, count: int = 1, settings: CloakSettings = QUICK, **options: object) -> CloakResult:
    return cloak_faces(pictures(count), faces_in(count), model, RECOGNIZERS, settings, **options)


def crop_psnr(result: CloakResult) -> float:
    """Return the PSNR of the one published face, in dB, in its crop."""
    published = (result.images * 255.0).round() / 255.0
    before, after = (crop_faces(picture, faces_in(1), 256)[0] for picture in (pictures(1), published))
    return -10.0 * float((after.clamp(0, 1) - before.clamp(0, 1)).pow(2).mean().log10())


def test_the_face_changes_the_rest_does_not_and_the_result_is_complete(model: FaceModel):
    settings = replace(QUICK, empty=EmptySettings(steps=1))
    result = run(model, settings=settings)
    outside = (result.mask == 0).expand_as(result.images)
    assert torch.equal(result.images[outside], pictures(1)[outside])
    assert not torch.equal(result.images, pictures(1))
    assert 0.0 <= float(result.images.min()) <= float(result.images.max()) <= 1.0
    assert result.latents.shape == (1, 32, 16, 16)
    assert result.conditions.tokens.shape == (1, 1, 21, 768)
    assert result.history.similarities.shape == (3, 1, 2)
    assert result.similarities.shape == (1, 2)
    assert torch.equal(result.is_protected, (result.similarities < result.thresholds).all(dim=1))
    networks = (model.denoiser.unet, model.autoencoder, model.token_head)
    assert all(p.grad is None and not p.requires_grad for network in networks for p in network.parameters())


def test_no_iteration_is_the_identity_and_does_not_pass_for_protection(model: FaceModel):
    nothing = replace(QUICK, attack=AttackSettings(iterations=0))
    result = run(model, settings=nothing)
    assert torch.equal(result.images, pictures(1))
    assert result.is_protected.tolist() == [False]
    with pytest.raises(NumericalError, match=r"1 of 1 that are not; face 0: a 1\.00 \(limit 0\.30\)"):
        run(model, settings=replace(nothing, require_protection=True))


def assert_same_but_for_rounding(one: torch.Tensor, other: torch.Tensor) -> None:
    """Adam goes by the sign of a gradient: of 8,192 values the few whose gradient is all rounding may part, no more."""
    assert float(((one - other).abs() > 1e-3).float().mean()) < 0.05
    assert float((one - other).norm() / other.norm()) < 5e-3


def test_a_batch_equals_its_pictures_alone(model: FaceModel):
    batch = run(model, 2)
    for index in range(2):
        face = Faces((synthetic_face(110 + 8 * index, 90, 130),), 1, 180, 240)
        alone = cloak_faces(pictures(2)[index : index + 1], face, model, RECOGNIZERS, QUICK)
        assert_same_but_for_rounding(batch.latents[index], alone.latents[0])
        assert float((batch.images[index] - alone.images[0]).abs().max()) <= 1.0 / 255.0


def test_one_seed_gives_one_result_whatever_the_global_state_and_another_seed_another(model: FaceModel):
    torch.manual_seed(6)
    first = run(model)
    torch.manual_seed(7)
    assert torch.equal(run(model).images, first.images)
    assert not torch.equal(run(model, settings=replace(QUICK, seed=1)).images, first.images)


def test_progress_counts_levels_and_iterations_also_inside_inference_mode(model: FaceModel):
    seen: list[tuple[int, int]] = []
    with torch.inference_mode():
        run(model, progress=lambda step, total, preview=None: seen.append((step, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_impersonation_needs_a_target_and_the_users_word(model: FaceModel):
    somebody = see_faces(RECOGNIZERS, 1.0 - pictures(1), faces_in(1))
    wants = replace(QUICK, aim=Aim.IMPERSONATE)
    with pytest.raises(InputError, match="target to impersonate, got none"):
        run(model, settings=wants)
    with pytest.raises(InputError, match="acknowledgement"):
        run(model, settings=wants, target=somebody)
    result = run(model, settings=replace(wants, acknowledged=True), target=somebody)
    assert torch.equal(result.is_protected, (result.similarities > result.thresholds).all(dim=1))
    himself: Identities = see_faces(RECOGNIZERS, pictures(1), faces_in(1))
    with pytest.raises(InputError, match="another person"):
        run(model, target=himself)


def test_bad_input_is_refused(model: FaceModel):
    with pytest.raises(NoFaceError):
        cloak_faces(pictures(1), Faces((), 1, 180, 240), model, RECOGNIZERS, QUICK)
    with pytest.raises(InputError, match="at least one face recogniser"):
        cloak_faces(pictures(1), faces_in(1), model, (), QUICK)
    with pytest.raises(InputError, match="declared shift"):
        replace(QUICK, shift=2)
    with pytest.raises(InputError, match="margin in"):
        replace(QUICK, margin=2.0)
    for fidelity in (0.0, -1.0, 61.0, float("nan")):
        with pytest.raises(InputError, match="fidelity above 0"):
            replace(QUICK, fidelity=fidelity)


CAREFUL = replace(QUICK, fidelity=45.0, attack=replace(QUICK.attack, iterations=5))
"""Too careful to protect at once."""
BRIEF = replace(CAREFUL, attack=replace(QUICK.attack, iterations=2))


def test_a_face_that_is_not_protected_is_tried_again_with_less_regard_for_fidelity(model: FaceModel):
    once, twice = (run(model, settings=replace(CAREFUL, attempts=attempts)) for attempts in (1, 2))
    assert not bool(once.is_protected.any())
    assert twice.history.starts == (0, 5)
    assert bool((twice.similarities.amax(dim=1) < once.similarities.amax(dim=1)).all())
    with pytest.raises(InputError, match="attempt"):
        replace(CAREFUL, attempts=0)


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [
        (0, (Change.RESIZE, Change.BLUR, Change.MOVE)),  # with JPEG, whose rounding a last bit decides here, 0.03 apart
        (1, tuple(Change)),
    ],
)
def test_two_attempts_of_a_batch_equal_those_of_its_pictures_alone(model: FaceModel, seed: int, kinds: tuple[Change, ...]):
    settings = replace(BRIEF, attempts=2, transforms=TransformSettings(kinds=kinds), seed=seed)
    batch = run(model, 2, settings)
    assert batch.history.starts == (0, 2)
    for index in range(2):
        face = Faces((synthetic_face(110 + 8 * index, 90, 130),), 1, 180, 240)
        alone = cloak_faces(pictures(2)[index : index + 1], face, model, RECOGNIZERS, settings)
        assert_same_but_for_rounding(batch.latents[index], alone.latents[0])
        assert float((batch.images[index] - alone.images[0]).square().mean()) < 1e-6


def test_two_attempts_with_every_change_repeat_bit_by_bit(model: FaceModel):
    settings = replace(BRIEF, attempts=2, transforms=TransformSettings())
    first, again = (run(model, settings=settings) for _ in range(2))
    assert first.history.starts == (0, 2)
    assert torch.equal(again.images, first.images)
    assert torch.equal(again.latents, first.latents)


@pytest.mark.parametrize("fidelity", [30.0, 40.0])
def test_fidelity_holds_in_the_face_crop(model: FaceModel, fidelity: float):
    settings = replace(QUICK, fidelity=fidelity, weights=Weights(1.0, 0.0), margin=1.0)
    result = run(model, settings=replace(settings, attack=AttackSettings(iterations=8, learning_rate=0.2)))
    assert fidelity - 0.2 < crop_psnr(result) < fidelity + 1.5


def test_a_cancelled_later_attempt_keeps_the_earlier_better_result(model: FaceModel):
    class CancelledError(Exception):
        pass

    def cancel(report: AttackReport) -> None:
        if report.iteration == 6:
            raise CancelledError

    settings = replace(CAREFUL, attempts=2)
    kept = cloak_faces(
        pictures(1), faces_in(1), model, RECOGNIZERS, settings, watch=cancel,
        keep_best_on_cancel=(CancelledError,),
    )  # fmt: skip
    once = run(model, settings=replace(settings, attempts=1))
    assert kept.cancelled
    assert bool((kept.similarities.amax(dim=1) <= once.similarities.amax(dim=1)).all())


def test_in_bfloat16_latents_maps_and_pictures_stay_float32_and_gradients_agree(model: FaceModel):
    models = (model, model.in_bfloat16())
    start = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(3))
    gradients, seen = [], []
    for one in models:
        x = start.clone().requires_grad_(True)
        with one.record() as recording:
            clean = one.denoise(x, 0.228, one.empty)
            maps = recording.take()
        decoded = one.decode(clean)
        assert {part.dtype for part in (clean, decoded, *maps)} == {torch.float32}
        torch.testing.assert_close(maps[0].sum(dim=-1), torch.ones_like(maps[0][..., 0]))
        gradients.append(torch.autograd.grad(decoded.square().sum(), x)[0].flatten())
        seen.append(decoded)
    assert not torch.equal(*seen), "bfloat16 was in use"
    assert float((seen[0] - seen[1]).detach().abs().max()) < 0.05
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.999


ROUNDING = 2.0**-8
"""Relative error of one rounding to bfloat16, which no processor may exceed and no instruction set changes."""

PUSHED = replace(QUICK, fidelity=10.0, attack=AttackSettings(iterations=1, learning_rate=0.5))
"""A first push (the same in every number format) that changes the picture by many roundings, and no budget that holds it."""


def test_in_bfloat16_the_identity_holds_and_a_budget_is_used_up(model: FaceModel):
    still = replace(QUICK, bf16=True, attack=AttackSettings(iterations=0))
    assert torch.equal(run(model, settings=still).images, pictures(1))
    for bf16 in (False, True):
        assert 39.8 < crop_psnr(run(model, settings=replace(QUICK, bf16=bf16, fidelity=40.0))) < 41.5


def test_in_bfloat16_the_same_push_gives_the_same_picture_but_for_its_rounding(model: FaceModel):
    plain, fast = (run(model, settings=replace(PUSHED, bf16=bf16)) for bf16 in (False, True))
    inside = (plain.mask > 0).expand_as(plain.images)
    change, difference = ((part - plain.images)[inside].square().mean().sqrt() for part in (pictures(1), fast.images))
    assert float((plain.latents - fast.latents).norm() / plain.latents.norm()) < ROUNDING
    assert 0.0 < float(difference) < ROUNDING
    assert float(change) > 4.0 * ROUNDING, "a change that is far more than rounding"


def test_in_bfloat16_the_first_update_goes_the_same_way(model: FaceModel):
    """Adam's first update is the sign of the gradient; an error of a part r of normal values turns about r / pi signs."""
    networks = (model.denoiser.unet, model.autoencoder)
    layers = sum(isinstance(part, (nn.Conv2d, nn.Linear)) for network in networks for part in network.modules())
    updates = []
    for bf16 in (False, True):
        pushed = replace(PUSHED, bf16=bf16)
        again = replace(pushed, attack=replace(PUSHED.attack, iterations=2))
        updates.append(run(model, settings=again).latents - run(model, settings=pushed).latents)
        shorter = (updates[-1].abs() - 0.5).abs() > 1e-3  # a gradient as small as Adam's own epsilon
        assert float(shorter.float().mean()) < 2e-3
    turned = (updates[0].sign() != updates[1].sign()).float().mean()
    assert float(turned) <= ROUNDING * (4 * layers) ** 0.5 / torch.pi, "a layer rounds weights and values, forth and back"


def test_the_short_cut_is_taken_at_one_level_without_structure_and_protects_as_well(model: FaceModel):
    bare = replace(QUICK, weights=Weights(1.0, 0.0))
    assert bare.is_truncated(short_cut=True)
    assert not bare.is_truncated(short_cut=False)
    assert not QUICK.is_truncated(short_cut=True), "the structure needs the model's gradient"
    assert not replace(bare, levels=(0.228, 0.346)).is_truncated(short_cut=True)
    full, short = (run(model, settings=replace(bare, truncated_gradient=truncated)) for truncated in (False, None))
    assert not torch.equal(full.latents, short.latents)
    torch.testing.assert_close(short.similarities, full.similarities, rtol=0, atol=0.05)


def test_a_truncated_gradient_that_leads_elsewhere_is_refused(model: FaceModel, monkeypatch: pytest.MonkeyPatch):
    asked = replace(QUICK, weights=Weights(1.0, 0.0), truncated_gradient=True)
    assert run(model, settings=asked).latents.shape == (1, 32, 16, 16)
    monkeypatch.setattr("faceprivacy_core.adversarial.agreement.ENOUGH", 0.999999)
    with pytest.raises(InputError, match=r"truncated gradient that agrees.*for face 0"):
        run(model, settings=asked)
    with pytest.raises(InputError, match="does not know the structure"):
        replace(asked, weights=Weights(1.0, 1.0))


def test_toward_the_person_it_was_a_changed_face_is_known_again(model: FaceModel):
    changed = (pictures(1) + 0.35 * torch.linspace(-1, 1, 240)).clamp(0.0, 1.0)
    person = see_faces(RECOGNIZERS, pictures(1), faces_in(1))
    seen = person.similarities(see_faces(RECOGNIZERS, changed, faces_in(1)).vectors)
    settings = replace(QUICK, aim=Aim.KEEP, margin=0.7, fidelity=30.0, attack=AttackSettings(8, 0.1))
    result = cloak_faces(changed, faces_in(1), model, RECOGNIZERS, settings, target=person)
    assert float(result.similarities.min()) > float(seen.min())
    with pytest.raises(InputError, match="target to keep, got none"):
        run(model, settings=settings)
    with pytest.raises(InputError, match="Expected one target identity, or one for each of 1 faces"):
        run(model, settings=settings, target=person.repeat(2))
    stranger = replace(settings, require_protection=True, attack=AttackSettings(iterations=0))
    opposite = Identities(tuple(-vectors for vectors in person.vectors))
    with pytest.raises(NumericalError, match="Expected every face to be known"):
        run(model, settings=stranger, target=opposite)
