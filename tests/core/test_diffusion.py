"""Schedules, sampler and inversion: laws and closed forms."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel

from faceprivacy_core.diffusion.backends.diffusers import DiffusersDenoiser
from faceprivacy_core.diffusion.inversion import invert_euler
from faceprivacy_core.diffusion.samplers import Background, sample_euler
from faceprivacy_core.diffusion.schedules import (
    NoiseSchedule,
    alphas_cumprod_to_sigmas,
    ddim_sigmas,
    ddim_timesteps,
    sigmas_to_alphas_cumprod,
    ve_to_vp,
    vp_to_ve,
)
from faceprivacy_core.errors import InputError, NumericalError, UnsupportedModelError
from tests.support.gaussian import GaussianDenoiser, MixtureDenoiser

SCHEDULE = NoiseSchedule.scaled_linear()


def test_schedule_equals_the_diffusers_scheduler():
    reference = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    torch.testing.assert_close(sigmas_to_alphas_cumprod(SCHEDULE.sigmas).float(), reference, rtol=1e-5, atol=1e-7)


def test_coordinates_round_trip():
    z = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    sigma = float(SCHEDULE.sigmas[600])
    torch.testing.assert_close(ve_to_vp(vp_to_ve(z, sigma), sigma), z)
    alphas = sigmas_to_alphas_cumprod(SCHEDULE.sigmas)
    torch.testing.assert_close(alphas_cumprod_to_sigmas(alphas), SCHEDULE.sigmas)


@pytest.mark.parametrize(("steps", "first", "last", "stride"), [(50, 1, 981, 20), (100, 1, 991, 10)])
def test_ddim_grid_is_the_published_one(steps: int, first: int, last: int, stride: int):
    grid = ddim_timesteps(steps)
    assert (int(grid[0]), int(grid[-1]), int(grid[1] - grid[0]), len(grid)) == (first, last, stride, steps)


def test_timestep_of_every_level_is_its_index():
    assert torch.equal(SCHEDULE.timestep(SCHEDULE.sigmas), torch.arange(1000))
    assert SCHEDULE.continuous_timestep(float(SCHEDULE.sigmas[417])) == pytest.approx(417, abs=1e-6)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps: int):
    with pytest.raises(InputError, match="sampling steps"):
        ddim_timesteps(steps)


@pytest.mark.parametrize("strength", [0.0, 1.1])
def test_impossible_strengths_are_refused(strength: float):
    with pytest.raises(InputError, match="strength"):
        ddim_sigmas(SCHEDULE, 50, strength)


def test_euler_converges_with_first_order():
    model = GaussianDenoiser()
    x = torch.full((1, 1, 1, 1), 9.0, dtype=torch.float64)
    errors = []
    for steps in (40, 80, 160, 320):
        sigmas = torch.linspace(10.0, 0.5, steps + 1, dtype=torch.float64)
        errors.append(float((sample_euler(model, x, sigmas, None) - model.exact(x, 10.0, 0.5)).abs()))
    orders = [torch.log2(torch.tensor(a / b)).item() for a, b in pairwise(errors)]
    assert all(0.9 < order < 1.1 for order in orders), (errors, orders)


def test_euler_step_is_the_ddim_step_of_diffusers():
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(50)
    sigma, sigma_next = float(SCHEDULE.sigmas[980]), float(SCHEDULE.sigmas[960])
    z, eps = torch.randn(2, 4, 2, 2, dtype=torch.float64), torch.randn(2, 4, 2, 2, dtype=torch.float64)
    expected = scheduler.step(eps, 980, z).prev_sample
    x = sample_euler(lambda x, s, _: x - s * eps, vp_to_ve(z, sigma), torch.tensor([sigma, sigma_next]).double(), None)
    torch.testing.assert_close(ve_to_vp(x, sigma_next), expected, rtol=1e-5, atol=1e-6)


def test_inversion_returns_to_the_start_and_the_naive_one_does_not():
    model = MixtureDenoiser()
    x0 = model.sample(4)
    for steps, bound in ((20, 1e-3), (50, 1e-5)):
        sigmas = ddim_sigmas(SCHEDULE, steps)
        error = {}
        for iterations in (0, 1, 5):
            inversion = invert_euler(model, x0, sigmas, None, iterations=iterations)
            error[iterations] = float((sample_euler(model, inversion.noise, sigmas, None) - x0).pow(2).mean().sqrt())
        assert error[5] <= bound
        assert error[5] < error[1] < error[0]
        assert error[0] > 10 * error[5]


@pytest.mark.parametrize("steps", [20, 50])
def test_the_naive_inversion_is_that_of_diffusers(steps: int):
    """Its scheduler hands the latent of the level below to the network, in VP terms, and tells it the level above."""
    unet, cond = tiny_unet().double(), torch.randn(1, 5, 12).double()
    scheduler = DDIMInverseScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        set_alpha_to_one=True,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    x0 = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    z = x0.clone()
    for timestep in scheduler.timesteps:
        z = scheduler.step(unet(z, timestep, cond).sample, timestep, z).prev_sample
    sigmas = ddim_sigmas(SCHEDULE, steps)
    noise = invert_euler(DiffusersDenoiser(unet, SCHEDULE), x0, sigmas, cond, iterations=0).noise
    torch.testing.assert_close(ve_to_vp(noise, float(sigmas[0])), z, rtol=0, atol=1e-4)


def test_naive_inversion_error_shrinks_with_steps():
    model = MixtureDenoiser()
    x0 = model.sample(4)
    errors = []
    for steps in (20, 50, 100):
        sigmas = ddim_sigmas(SCHEDULE, steps)
        noise = invert_euler(model, x0, sigmas, None, iterations=0).noise
        errors.append(float((sample_euler(model, noise, sigmas, None) - x0).norm()))
    assert errors[0] > errors[1] > errors[2]


def test_inversion_reports_residual_and_cost():
    model = GaussianDenoiser()
    sigmas = ddim_sigmas(SCHEDULE, 10)
    exact = invert_euler(model, torch.randn(3, 4, 2, 2), sigmas, None, iterations=8)
    assert model.evaluations == exact.evaluations == 10 * 9
    assert exact.residuals.shape == (10, 3)
    rough = invert_euler(model, torch.randn(3, 4, 2, 2), sigmas, None, iterations=0)
    assert exact.residual < 0.05 < rough.residual


def test_inversion_of_a_batch_equals_single_inversions():
    model = MixtureDenoiser()
    x0 = model.sample(3)
    sigmas = ddim_sigmas(SCHEDULE, 10)
    batch = invert_euler(model, x0, sigmas, None, iterations=3).noise
    single = [invert_euler(model, x[None], sigmas, None, iterations=3).noise for x in x0]
    torch.testing.assert_close(batch, torch.cat(single))


def test_inversion_that_leaves_the_finite_numbers_raises():
    with pytest.raises(NumericalError, match="noise level"):
        invert_euler(lambda x, s, c: x * float("nan"), torch.zeros(1, 4, 2, 2), ddim_sigmas(SCHEDULE, 4), None)


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 2.0], [1.0, 1.0], [1.0, -0.5]])
def test_noise_levels_that_do_not_fall_are_refused(sigmas: list[float]):
    with pytest.raises(InputError, match="falling noise levels"):
        sample_euler(GaussianDenoiser(), torch.zeros(1, 4, 2, 2), torch.tensor(sigmas), None)


def test_background_ends_as_given_and_carries_the_right_noise_before():
    latent, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1.0
    seen = []
    model = GaussianDenoiser()

    def watching(x: torch.Tensor, sigma: float, cond: object) -> torch.Tensor:
        seen.append(((x - latent) / sigma - noise)[..., :4].abs().max())
        return model(x, sigma, cond)

    sigmas = ddim_sigmas(SCHEDULE, 10).float()
    result = sample_euler(watching, latent + sigmas[0] * noise, sigmas, None, background=Background(latent, noise, mask))
    assert torch.equal(result[..., :4], latent[..., :4])
    assert len(seen) == 10
    assert max(seen) < 1e-3


def test_sampling_does_not_change_its_input():
    x = torch.randn(1, 4, 2, 2)
    before = x.clone()
    sample_euler(GaussianDenoiser(), x, ddim_sigmas(SCHEDULE, 4), None)
    assert torch.equal(x, before)


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12,
        attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval().requires_grad_(False)  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_adapter_agrees_with_the_diffusers_scheduler(prediction: str):
    unet = tiny_unet()
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, prediction_type=prediction
    )
    scheduler.set_timesteps(20)
    z, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 12)
    timestep = 400
    sigma = float(SCHEDULE.sigmas[timestep])
    output = unet(z, torch.tensor(timestep), cond).sample
    expected = scheduler.step(output, timestep, z).pred_original_sample
    denoised = DiffusersDenoiser(unet, SCHEDULE, prediction)(vp_to_ve(z, sigma), sigma, cond)
    torch.testing.assert_close(denoised, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_adapters_of_perfect_networks_give_the_same_estimate(prediction: str):
    x0, noise, sigma = torch.randn(3, 4, 8, 12), torch.randn(3, 4, 8, 12), float(SCHEDULE.sigmas[437])
    alpha = (1.0 + sigma**2) ** -0.5
    outputs = {
        "epsilon": (noise, 437.0, alpha),
        "v_prediction": (alpha * noise - alpha * sigma * x0, 437.0, alpha),
        "flow_prediction": (noise - x0, 1000.0 * sigma / (1.0 + sigma), 1.0 / (1.0 + sigma)),
    }
    output, timestep, scale = outputs[prediction]

    def perfect(sample: torch.Tensor, t: torch.Tensor, cond: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        torch.testing.assert_close(sample, scale * (x0 + sigma * noise))
        torch.testing.assert_close(t.float(), torch.full((3,), timestep))
        return (output,)

    denoised = DiffusersDenoiser(perfect, SCHEDULE, prediction)(x0 + sigma * noise, sigma, torch.zeros(1, 1, 1))
    torch.testing.assert_close(denoised, x0, rtol=1e-4, atol=1e-4)


def test_adapter_refuses_other_predictions():
    with pytest.raises(UnsupportedModelError, match="sample"):
        DiffusersDenoiser(tiny_unet(), SCHEDULE, "sample")
