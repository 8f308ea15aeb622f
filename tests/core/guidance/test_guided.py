"""The guided update: the paper's rule, ranges, cost, and strength that does not depend on the step count."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
import torch

from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas, sigmas_to_alphas_cumprod, vp_to_ve
from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES, load_ensemble
from faceprivacy_core.guidance.build import build_energy
from faceprivacy_core.guidance.guided import EnergyGuidance, GuidanceRange, GuidedParts, edited_estimate, unit_rms
from faceprivacy_core.images import crop_faces
from faceprivacy_core.types import Faces
from tests.core.guidance.toys import PeakMemory, decode, energy_for
from tests.support.gaussian import GaussianDenoiser

SCHEDULE = NoiseSchedule.scaled_linear()
PORTRAIT = Path(__file__).parents[3] / "docs" / "samples" / "portrait.jpg"


def test_edited_euler_step_is_the_papers_update_in_vp_coordinates():
    torch.manual_seed(0)
    sigma, sigma_next, strength = float(SCHEDULE.sigmas[581]), float(SCHEDULE.sigmas[561]), 1.7
    x0, eps, gradient = (torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(3))
    x = x0 + sigma * eps
    edited = edited_estimate(x0, gradient, sigma, sigma_next, strength)
    stepped = edited + sigma_next / sigma * (x - edited)
    torch.testing.assert_close(stepped, _paper_step(x0, eps, sigma_next, strength * gradient), rtol=0, atol=1e-12)


def test_guided_sampler_is_the_papers_loop_in_vp_coordinates():
    """Many steps of the released rule, written in its own coordinates, against the sampler of this package."""
    model, energy = GaussianDenoiser(), energy_for(torch.rand(1, 3, 16, 16).double(), floor=-1.0)
    sigmas = ddim_sigmas(SCHEDULE, 50, 0.3)
    x = sigmas[0] * torch.randn(1, 4, 16, 16, dtype=torch.float64)
    guidance = EnergyGuidance(energy, decode, SCHEDULE, strength=0.5, normalize=False)
    ours = sample_euler(model, x, sigmas, None, edit_denoised=guidance)
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        x0 = model(x, sigma, None)
        leaf = x0.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(decode(leaf)).sum(), leaf)
        lam = guidance.step_strength(sigma, sigma_next)
        x = _paper_step(x0, (x - x0) / sigma, sigma_next, lam * gradient)
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-12)


def _paper_step(x0: torch.Tensor, eps: torch.Tensor, sigma_next: float, push: torch.Tensor) -> torch.Tensor:
    abar_next = float(sigmas_to_alphas_cumprod(torch.tensor(sigma_next, dtype=torch.float64)))
    return vp_to_ve(abar_next**0.5 * x0 + (1 - abar_next) ** 0.5 * eps - push, sigma_next)


def make_guidance(strength: float, **kwargs: object) -> EnergyGuidance:
    torch.manual_seed(3)
    return EnergyGuidance(energy_for(torch.rand(1, 3, 16, 16)), decode, SCHEDULE, strength, **kwargs)


def run(guidance: EnergyGuidance | None, steps: int = 10, model: GaussianDenoiser | None = None) -> torch.Tensor:
    torch.manual_seed(1)
    sigmas = ddim_sigmas(SCHEDULE, steps).float()
    x = sigmas[0] * torch.randn(1, 4, 16, 16)
    return sample_euler(model or GaussianDenoiser(), x, sigmas, None, edit_denoised=guidance)


def test_strength_zero_is_bit_exact_identity():
    assert torch.equal(run(make_guidance(0.0)), run(None))


def test_strength_zero_is_bit_exact_at_every_step():
    seen: list[torch.Tensor] = []
    idle = make_guidance(0.0)

    def watch(denoised: torch.Tensor, sigma: float, sigma_next: float) -> torch.Tensor:
        edited = idle(denoised, sigma, sigma_next)
        seen.append(edited)
        assert edited is denoised
        return edited

    run(watch)  # type: ignore[arg-type]
    assert len(seen) == 10
    assert idle.history == []


def test_an_empty_active_range_is_bit_exact_identity():
    assert torch.equal(run(make_guidance(1.0, active=GuidanceRange(0.0, 0.0))), run(None))
    assert torch.equal(run(make_guidance(1.0, active=GuidanceRange(0.5, 0.5))), run(None))


def test_guidance_lowers_the_energy():
    guidance = make_guidance(0.02)
    plain, guided = guidance.energy(decode(run(None))), guidance.energy(decode(run(guidance)))
    assert float(guided) < float(plain)
    assert len(guidance.history) == 10


def test_guidance_costs_one_decode_for_each_guided_step_and_no_model_evaluation():
    model, decodes = GaussianDenoiser(), []

    def counted(latents: torch.Tensor) -> torch.Tensor:
        decodes.append(len(latents))
        return decode(latents)

    guidance = make_guidance(1.0, active=GuidanceRange(0.6, 0.2))
    guidance.decode = counted
    run(guidance, steps=50, model=model)
    assert model.evaluations == 50
    assert len(decodes) == len(guidance.history) == 20  # timesteps 201 to 581


@pytest.mark.parametrize("steps", [7, 10, 50])
def test_ranges_that_meet_guide_every_step_once(steps: int):
    # Boundaries on the grid itself, where both would act if ranges were closed.
    grid = ddim_sigmas(SCHEDULE, steps)[:-1].tolist()
    cuts = [1.0, *(SCHEDULE.continuous_timestep(grid[i]) / 999 for i in (2, 4)), 0.0]
    ranges = [GuidanceRange(start, end) for start, end in pairwise(cuts)]
    acting = [[make_guidance(1.0, active=r).step_strength(s, 0.5 * s) > 0 for r in ranges] for s in grid]
    assert all(sum(step) == 1 for step in acting)


def test_micro_batch_reaches_the_gradient():
    guidance = make_guidance(1.0, micro_batch=1)
    whole = make_guidance(1.0)
    latents = torch.randn(3, 4, 16, 16)
    torch.testing.assert_close(guidance(latents, 3.0, 1.0), whole(latents, 3.0, 1.0), rtol=1e-5, atol=1e-5)


def test_parts_are_guided_as_the_whole_in_the_memory_of_one():
    """Three faces in two variants each, variant by variant; variants of a face push one another."""
    originals, latents = torch.rand(3, 3, 64, 64), torch.randn(6, 4, 64, 64)
    whole = EnergyGuidance(energy_for(originals), decode, SCHEDULE)
    parts = GuidedParts(
        tuple(
            (torch.tensor([face, 3 + face]), EnergyGuidance(energy_for(originals[face : face + 1]), decode, SCHEDULE))
            for face in range(3)
        )
    )
    peaks, found = [], []
    for guidance in (whole, parts):
        with PeakMemory() as taken:
            found.append(guidance(latents, 3.0, 1.0))
        peaks.append(taken.peak)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
    assert parts.history == pytest.approx(whole.history)
    assert not torch.equal(found[1], latents)
    assert peaks[1] < 0.6 * peaks[0]


def test_step_strength_adds_up_to_the_same_for_every_step_count():
    totals = []
    for steps in (25, 50, 100):
        sigmas = ddim_sigmas(SCHEDULE, steps).tolist()
        guidance = make_guidance(1.0)
        totals.append(sum(guidance.step_strength(a, b) for a, b in pairwise(sigmas)))
    assert max(totals) / min(totals) < 1.05
    inner = make_guidance(1.0).step_strength(float(SCHEDULE.sigmas[601]), float(SCHEDULE.sigmas[581]))
    assert inner == pytest.approx(1.0, rel=1e-6)


class LegacyGuidance(EnergyGuidance):
    """The released rule: one strength for every step, however many there are."""

    def step_strength(self, sigma: float, sigma_next: float) -> float:
        return self.strength


@pytest.mark.parametrize("normalize", [True, False])
def test_final_energy_does_not_depend_on_the_step_count_but_did_with_the_released_rule(normalize: bool):
    def final_energies(kind: type[EnergyGuidance]) -> list[float]:
        values = []
        for steps in (25, 50, 100):
            guidance = kind(energy, decode, SCHEDULE, 1.0 if normalize else 0.2, normalize)
            values.append(float(energy(decode(run(guidance, steps)))))
        return values

    def energy(images: torch.Tensor) -> torch.Tensor:
        return 40.0 * (images - 0.2).pow(2).flatten(1).mean(dim=1) * (1.0 if normalize else 16.0)

    plain = float(energy(decode(run(None, 50))))
    ours, legacy = final_energies(EnergyGuidance), final_energies(LegacyGuidance)
    assert ours[1] < 0.8 * plain, "The guidance did too little to be compared."
    assert all(abs(value / ours[1] - 1.0) < 0.25 for value in ours), ours
    assert any(abs(value / legacy[1] - 1.0) > 0.25 for value in legacy), legacy


def test_unit_rms_keeps_zero_and_scales_items_alone():
    gradient = torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2) * 7])
    torch.testing.assert_close(unit_rms(gradient), torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)]))


def test_an_impossible_range_is_refused():
    with pytest.raises(InputError, match="start"):
        GuidanceRange(0.2, 0.5)


@pytest.mark.weights
def test_energy_falls_over_the_guided_steps_of_the_built_in_model():
    try:
        detector, recognizers = load_detector(), load_ensemble(DEFAULT_SURROGATES)
    except ModelFileError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    pixels = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255.0
    model = load_face_model()
    originals, crops = crop_faces(image, Faces(tuple(detector.detect(pixels)[:1]), 1, *pixels.shape[:2]), model.resolution)
    with torch.no_grad():
        latent, tokens = model.autoencoder.encode(originals * 2.0 - 1.0), model.encode_tokens(originals)
        sigmas = ddim_sigmas(model.denoiser.schedule, 5, 0.6).float()
        start = latent + sigmas[0] * torch.randn_like(latent)
        guidance = EnergyGuidance(
            build_energy(originals, crops, recognizers),
            lambda z: ((model.autoencoder.decode(z) + 1.0) / 2.0).clamp(0.0, 1.0),
            model.denoiser.schedule,
        )
        sample_euler(model.denoiser, start, sigmas, tokens, edit_denoised=guidance)
    assert len(guidance.history) == 3
    assert guidance.history[-1] < guidance.history[0]
