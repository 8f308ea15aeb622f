"""The gradient of an energy: whole, in parts, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from faceprivacy_core.errors import InputError, NumericalError, UnsupportedModelError
from faceprivacy_core.guidance.energies import IdentityEnergy
from faceprivacy_core.guidance.gradient import energy_gradient
from tests.core.guidance.toys import PeakMemory, decode, energy_for


def test_gradient_does_not_touch_its_input_or_leave_gradients_behind():
    latents = torch.randn(1, 4, 16, 16)
    before = latents.clone()
    energy_gradient(latents, decode, energy_for(torch.rand(1, 3, 16, 16)))
    assert torch.equal(latents, before)
    assert latents.grad is None
    assert not latents.requires_grad


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_gradient_works_inside_inference_mode(micro_batch: int | None):
    with torch.inference_mode():
        latents = torch.randn(2, 4, 16, 16)
        gradient, _ = energy_gradient(latents, decode, _ordinary_energy(), micro_batch=micro_batch)
    assert float(gradient.abs().max()) > 0


def _ordinary_energy() -> IdentityEnergy:
    with torch.inference_mode(False):
        return energy_for(torch.rand(1, 3, 16, 16), floor=-1.0)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 8, 100])
def test_every_micro_batch_gives_the_gradient_of_the_whole_batch(micro_batch: int):
    energy = energy_for(torch.rand(2, 3, 16, 16), floor=-1.0)  # two faces, four variants, which repel each other
    latents = torch.randn(8, 4, 16, 16)
    whole, values = energy_gradient(latents, decode, energy)
    parts, same_values = energy_gradient(latents, decode, energy, micro_batch=micro_batch)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))
    torch.testing.assert_close(same_values, values)


def test_micro_batches_decode_each_item_twice_and_need_less_memory():
    calls: list[int] = []

    def heavy(latents: torch.Tensor) -> torch.Tensor:
        calls.append(len(latents))
        for _ in range(20):
            latents = torch.tanh(latents)
        return decode(latents)

    energy = energy_for(torch.rand(1, 3, 32, 32), floor=-1.0)
    latents = torch.randn(6, 4, 32, 32)
    peaks = {}
    for micro_batch in (None, 2, 1):
        with PeakMemory() as memory:
            energy_gradient(latents, heavy, energy, micro_batch=micro_batch)
        peaks[micro_batch] = memory.peak
    assert calls == [6] + [2] * 6 + [1] * 12
    assert peaks[1] < peaks[2] < 0.6 * peaks[None]


def test_double_precision_is_kept():
    gradient, _ = energy_gradient(torch.randn(1, 4, 16, 16).double(), decode, energy_for(torch.rand(1, 3, 16, 16).double()))
    assert gradient.dtype == torch.float64


def test_a_gradient_that_is_not_finite_raises():
    with pytest.raises(NumericalError, match="not finite"):
        energy_gradient(torch.ones(1, 4, 4, 4), lambda z: z, lambda images: (images * float("inf")).flatten(1).sum(1))


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_an_energy_without_gradient_is_refused(micro_batch: int | None):
    latents = torch.randn(2, 4, 4, 4)
    with pytest.raises(UnsupportedModelError, match="does not depend on the latent"):
        energy_gradient(latents, decode, lambda images: images.detach().flatten(1).sum(1), micro_batch=micro_batch)


def test_an_impossible_micro_batch_is_refused():
    with pytest.raises(InputError, match="at least 1, got 0"):
        energy_gradient(torch.randn(1, 4, 4, 4), decode, lambda images: images.flatten(1).sum(1), micro_batch=0)
