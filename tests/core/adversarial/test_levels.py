"""Checks 1 to 4: the levels, DDIM as Euler, what the two schedules do to a known noise, the short inversion."""

import pytest
import torch

from faceprivacy_core.adversarial.levels import GRID_SIGMAS, Levels, choose_levels, invert_to_levels
from faceprivacy_core.adversarial.reverse import ALIGNED, RELEASED, reverse_step
from faceprivacy_core.diffusion.schedules import NoiseSchedule, sigmas_to_alphas_cumprod, ve_to_vp, vp_to_ve
from faceprivacy_core.errors import InputError, NumericalError
from tests.core.adversarial.toys import LEVELS, SCHEDULE, tiny_model

ABAR = {1: 0.998296, 51: 0.950524, 101: 0.892981, 151: 0.826399, 251: 0.672151, 351: 0.504819}


class ConstantNoise:
    """A denoiser that sees the same noise in everything."""

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise = noise

    def __call__(self, x: torch.Tensor, sigma: float, cond: object) -> torch.Tensor:
        return x - sigma * self.noise


def noise_and_clean() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 2, 4, 8, 8, dtype=torch.float64))  # type: ignore[return-value]


def down(model: object, x: torch.Tensor, levels: Levels, shift: int) -> torch.Tensor:
    for k in range(len(levels), 0, -1):
        x = reverse_step(model, x, levels, k, None, shift=shift)  # type: ignore[arg-type]
    return x


def test_levels_by_sigma_are_the_released_grid():
    found = torch.tensor(LEVELS.sigmas, dtype=torch.float64)
    assert SCHEDULE.timestep(found).tolist() == [1, 51, 101, 151]
    torch.testing.assert_close(
        sigmas_to_alphas_cumprod(found), torch.tensor([ABAR[t] for t in (1, 51, 101, 151)], dtype=torch.float64),
        rtol=0, atol=1e-6,
    )  # fmt: skip
    deeper = choose_levels(SCHEDULE, GRID_SIGMAS)
    assert SCHEDULE.timestep(torch.tensor(deeper.sigmas)).tolist() == list(range(1, 352, 50))
    assert LEVELS.final == float(SCHEDULE.sigmas[0])


def test_ddim_in_vp_is_euler_in_ve():
    x, noise = noise_and_clean()
    sigma, target = LEVELS[3], LEVELS[2]
    a, a_next = ((1.0 + s**2) ** -0.5 for s in (sigma, target))
    z = a * x
    ddim = a_next * (z - sigma * a * noise) / a + target * a_next * noise
    euler = reverse_step(ConstantNoise(noise), vp_to_ve(z, sigma), LEVELS, 3, None)
    assert float((ve_to_vp(euler, target) - ddim).abs().max()) < 1e-12


def test_a_constant_noise_is_taken_out_exactly():
    clean, noise = noise_and_clean()
    model = ConstantNoise(noise)
    path = invert_to_levels(model, clean, LEVELS, None)
    assert float((down(model, path[-1], LEVELS, ALIGNED) - clean).abs().max()) < 1e-12


def test_the_released_shift_ends_where_the_spec_says():
    clean, noise = noise_and_clean()
    x = clean + LEVELS[3] * noise
    z = ve_to_vp(down(ConstantNoise(noise), x, LEVELS, RELEASED), LEVELS[0])
    coefficients = torch.linalg.lstsq(torch.stack([clean.flatten(), noise.flatten()], dim=1), z.flatten()[:, None]).solution
    torch.testing.assert_close(coefficients[:, 0], torch.tensor([0.96159, 0.12384], dtype=torch.float64), rtol=0, atol=1e-5)


def test_truncated_inversion_is_the_beginning_of_the_full_one_bit_for_bit():
    model = tiny_model()
    whole = Levels(tuple(SCHEDULE.sigmas[1::50].tolist()), LEVELS.final)
    latent = torch.randn(2, 4, 8, 8)
    full = invert_to_levels(model.denoise, latent, whole, model.empty)
    model.denoise.evaluations = 0
    short = invert_to_levels(model.denoise, latent, LEVELS, model.empty)
    assert torch.equal(short, full[:4])
    assert (len(full), model.denoise.evaluations) == (20, 3)


@pytest.mark.parametrize("sigmas", [(), (0.3, 0.2), (0.3, 0.3), (-0.3,), (0.001,), (40.0,), (float("nan"),)])
def test_levels_that_are_none_are_refused(sigmas: tuple[float, ...]):
    with pytest.raises(InputError, match="Expected"):
        choose_levels(SCHEDULE, sigmas)


def test_a_latent_that_is_not_finite_is_refused():
    with pytest.raises(NumericalError, match="inversion"):
        invert_to_levels(lambda x, sigma, cond: x * float("nan"), torch.ones(1, 4, 8, 8), LEVELS, None)


def test_every_schedule_is_attacked_equally_deep():
    coarse = choose_levels(NoiseSchedule(torch.linspace(0.02, 3.0, 500, dtype=torch.float64)))
    torch.testing.assert_close(torch.tensor(coarse.sigmas[1:]), torch.tensor(GRID_SIGMAS[:3]), rtol=0.02, atol=0)
