"""Energies and the guided update: laws, finite differences, the paper's rule."""

from itertools import pairwise

import pytest
import torch

from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas, sigmas_to_alphas_cumprod, vp_to_ve
from faceprivacy_core.errors import InputError, NumericalError
from faceprivacy_core.guidance.energies import (
    Diversity,
    IdentityEnergy,
    PushAway,
    anonymization_energy,
    embed_all,
)
from faceprivacy_core.guidance.guided import (
    EnergyGuidance,
    GuidanceRange,
    edited_estimate,
    energy_gradient,
    unit_rms,
)
from faceprivacy_core.images import crop_faces
from tests.support.faces import one_face
from tests.support.gaussian import GaussianDenoiser
from tests.support.recognizer import ProjectionRecognizer

SCHEDULE = NoiseSchedule.scaled_linear()
RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))


def energy_for(originals: torch.Tensor, **kwargs: float) -> IdentityEnergy:
    landmarks = torch.zeros(len(originals), 5, 2)
    references = embed_all(RECOGNIZERS, originals, landmarks)
    terms = (PushAway(references, floor=kwargs.get("floor", 0.0)), Diversity(len(originals)))
    return IdentityEnergy(RECOGNIZERS, landmarks, originals.shape[-1], terms)


def decode(latents: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(latents[:, :3])


@pytest.mark.parametrize("variants", [1, 2, 3, 8])
def test_total_energy_counts_every_face_and_every_pair_once(variants: int):
    embedding = torch.ones(1, 16, dtype=torch.float64)
    same = embedding.repeat(variants, 1)
    push = PushAway((embedding,))((same,)).sum()
    pairs = Diversity(num_faces=1)((same,)).sum()
    assert push == pytest.approx(variants)
    assert pairs == pytest.approx(variants * (variants - 1) / 2)


def test_energy_is_permutation_equivariant_and_not_negative():
    originals = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    energy = energy_for(originals)
    values = energy(images)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(energy(images[order]), values[order])
    assert bool((values >= 0).all())


def test_energy_and_gradient_vanish_when_all_similarities_are_below_zero():
    reference = torch.tensor([[1.0, 0.0, 0.0]])
    found = torch.tensor([[-0.8, 0.6, 0.0], [-0.8, -0.6, 0.0]], requires_grad=True)
    total = (PushAway((reference,))((found,)) + Diversity(1, floor=0.5)((found,))).sum()
    total.backward()
    assert float(total.detach()) == 0.0
    assert float(found.grad.abs().max()) == 0.0


def test_variants_of_different_faces_do_not_repel_each_other():
    faces = torch.eye(2)
    found = torch.cat([faces, faces])  # two variants of two orthogonal faces
    values = Diversity(num_faces=2)((found,))
    torch.testing.assert_close(values, torch.full((4,), 0.5))
    mixed = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(Diversity(num_faces=2)((mixed,)).sum()) == 0.0


def test_gradient_agrees_with_finite_differences():
    torch.manual_seed(0)
    originals = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    energy = energy_for(originals, floor=-1.0)
    latents = torch.randn(2, 4, 16, 16, dtype=torch.float64)
    gradient, _ = energy_gradient(latents, lambda z: decode(z.double()), energy)
    direction = torch.randn_like(latents)
    step = 1e-5
    up, down = energy(decode(latents + step * direction)).sum(), energy(decode(latents - step * direction)).sum()
    expected = (up - down) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(expected), rel=1e-3)


def test_gradient_does_not_touch_its_input_or_leave_gradients_behind():
    latents = torch.randn(1, 4, 16, 16)
    before = latents.clone()
    energy_gradient(latents, decode, energy_for(torch.rand(1, 3, 16, 16)))
    assert torch.equal(latents, before)
    assert latents.grad is None
    assert not latents.requires_grad


def test_gradient_works_inside_inference_mode():
    with torch.inference_mode():
        latents = torch.randn(1, 4, 16, 16)
        gradient, _ = energy_gradient(latents, decode, _ordinary_energy())
    assert float(gradient.abs().max()) > 0


def _ordinary_energy() -> IdentityEnergy:
    with torch.inference_mode(False):
        return energy_for(torch.rand(1, 3, 16, 16))


def test_a_gradient_that_is_not_finite_raises():
    with pytest.raises(NumericalError, match="not finite"):
        energy_gradient(torch.ones(1, 4, 4, 4), lambda z: z, lambda images: (images * float("inf")).flatten(1).sum(1))


def test_edited_euler_step_is_the_papers_update_in_vp_coordinates():
    torch.manual_seed(0)
    sigma, sigma_next, strength = float(SCHEDULE.sigmas[581]), float(SCHEDULE.sigmas[561]), 1.7
    x0, eps, gradient = (torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(3))
    abar_next = float(sigmas_to_alphas_cumprod(torch.tensor(sigma_next, dtype=torch.float64)))
    paper = abar_next**0.5 * x0 + (1 - abar_next) ** 0.5 * eps - strength * gradient
    x = x0 + sigma * eps
    edited = edited_estimate(x0, gradient, sigma, sigma_next, strength)
    stepped = edited + sigma_next / sigma * (x - edited)
    torch.testing.assert_close(stepped, vp_to_ve(paper, sigma_next), rtol=0, atol=1e-12)


def make_guidance(strength: float, **kwargs: object) -> EnergyGuidance:
    torch.manual_seed(3)
    return EnergyGuidance(energy_for(torch.rand(1, 3, 16, 16)), decode, SCHEDULE, strength, **kwargs)


def run(guidance: EnergyGuidance | None, steps: int = 10) -> torch.Tensor:
    torch.manual_seed(1)
    sigmas = ddim_sigmas(SCHEDULE, steps).float()
    x = sigmas[0] * torch.randn(1, 4, 16, 16)
    return sample_euler(GaussianDenoiser(), x, sigmas, None, edit_denoised=guidance)


def test_strength_zero_is_bit_exact_identity():
    assert torch.equal(run(make_guidance(0.0)), run(None))


def test_an_empty_active_range_is_bit_exact_identity():
    assert torch.equal(run(make_guidance(1.0, active=GuidanceRange(0.0, 0.0))), run(None))


def test_guidance_lowers_the_energy():
    guidance = make_guidance(0.02)
    plain, guided = guidance.energy(decode(run(None))), guidance.energy(decode(run(guidance)))
    assert float(guided) < float(plain)
    assert len(guidance.history) == 10


def test_step_strength_adds_up_to_the_same_for_every_step_count():
    totals = []
    for steps in (25, 50, 100):
        sigmas = ddim_sigmas(SCHEDULE, steps).tolist()
        guidance = make_guidance(1.0)
        totals.append(sum(guidance.step_strength(a, b) for a, b in pairwise(sigmas)))
    assert max(totals) / min(totals) < 1.05
    inner = make_guidance(1.0).step_strength(float(SCHEDULE.sigmas[601]), float(SCHEDULE.sigmas[581]))
    assert inner == pytest.approx(1.0, rel=1e-6)


def test_unit_rms_keeps_zero_and_scales_items_alone():
    gradient = torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2) * 7])
    torch.testing.assert_close(unit_rms(gradient), torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)]))


def test_a_batch_that_is_no_whole_number_of_variants_is_refused():
    with pytest.raises(InputError, match="multiple of 2"):
        energy_for(torch.rand(2, 3, 16, 16))(torch.rand(3, 3, 16, 16))


def test_an_impossible_range_is_refused():
    with pytest.raises(InputError, match="start"):
        GuidanceRange(0.2, 0.5)


def test_anonymization_energy_is_highest_at_the_original_and_works_at_any_crop_size():
    picture = torch.rand(1, 3, 200, 300)
    original, crops = crop_faces(picture, one_face(), 64)
    energy = anonymization_energy(original, crops, RECOGNIZERS, floor=0.0, diversity=0.0)
    assert float(energy(original)) == pytest.approx(1.0, abs=1e-5)
    larger = torch.nn.functional.interpolate(original, (128, 128))
    assert float(energy(larger)) == pytest.approx(1.0, abs=1e-3)
    assert float(energy(1.0 - original)) < 0.5


def test_crops_that_do_not_belong_together_or_no_recogniser_are_refused():
    original, crops = crop_faces(torch.rand(1, 3, 200, 300), one_face(), 64)
    with pytest.raises(InputError, match="Expected 1 original crops"):
        anonymization_energy(original.repeat(2, 1, 1, 1), crops, RECOGNIZERS, floor=0.0, diversity=1.0)
    with pytest.raises(InputError, match="at least one recogniser"):
        anonymization_energy(original, crops, (), floor=0.0, diversity=1.0)
