"""MSI Inversion inside the host: stock sampling returns to the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from tests.support.host_scenes import Core, Scene

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]


@dataclass(frozen=True)
class RoundTrip:
    """An inversion and the way back through the host's own sampler."""

    error: float
    residual: float


@pytest.fixture(scope="module")
def round_trip(host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene) -> Callable[[int, int], RoundTrip]:
    """Invert the crop, sample the noise map with KSamplerAdvanced, compare latents; each setting once."""
    import torch

    known: dict[tuple[int, int], RoundTrip] = {}

    def run(steps: int, iterations: int) -> RoundTrip:
        if (steps, iterations) not in known:
            inversion, noise, residual = (
                pack_nodes["FacePrivacy_MsiInversion"]
                .execute(scene.model, scene.vae, scene.encoder, scene.image, True, steps, iterations)
                .args
            )
            positive, negative = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("recover", 400, inversion).args
            (back,) = host_nodes.KSamplerAdvanced().sample(
                scene.model, "disable", 0, steps, 1.0, "euler", "ddim_uniform", positive, negative, noise, 0, 10000,
                "disable",
            )  # fmt: skip
            latent = scene.vae.encode(scene.image)
            error = float((back["samples"] - latent).norm() / latent.norm())
            assert bool(torch.isfinite(noise["samples"]).all())
            known[steps, iterations] = RoundTrip(error, float(residual))
        return known[steps, iterations]

    return run


def test_stock_euler_returns_from_the_noise_map_to_the_picture(round_trip: Callable[[int, int], RoundTrip]) -> None:
    exact, naive = round_trip(20, 5), round_trip(20, 0)
    assert exact.error < 5e-3
    assert naive.error > 10 * exact.error
    assert round_trip(50, 5).error < 5e-4


def test_residual_tells_an_exact_inversion_from_a_plain_one(round_trip: Callable[[int, int], RoundTrip]) -> None:
    # The tooltip of the output promises that below 0.05 the picture comes back.
    assert round_trip(20, 5).residual < 0.05 < round_trip(20, 0).residual


@pytest.fixture(scope="module")
def spread(host_nodes: ModuleType, pack_nodes: dict[str, Any], core: Core, scene: Scene) -> Callable[[int], float]:
    """Draw a face from unit noise with the host's sampler; return the spread of the noise that its inversion finds."""
    import torch

    (inversion, *_) = pack_nodes["FacePrivacy_MsiInversion"].execute(scene.model, scene.vae, scene.encoder, scene.image).args
    positive, negative = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("recover", 400, inversion).args
    empty = {"samples": torch.zeros_like(scene.vae.encode(scene.image))}
    (drawn,) = host_nodes.KSamplerAdvanced().sample(
        scene.model, "enable", 3, 20, 1.0, "euler", "ddim_uniform", positive, negative, empty, 0, 10000, "disable"
    )  # fmt: skip

    def invert(iterations: int) -> float:
        *_, noise = core("nodes.inversion").invert_in_host(scene.model, drawn["samples"], inversion, 20, iterations)
        return float(noise.latent.std())

    return invert


def test_noise_map_has_the_spread_of_noise_only_when_iterated(spread: Callable[[int], float]) -> None:
    # Of a face that the model drew, so that the noise to be found is known: 8192 values, and 0.05 is 6 standard deviations
    # of the estimate. A photo's latent holds detail the model does not draw, and its exact noise is as wide as that.
    assert 0.95 < spread(5) < 1.05
    assert spread(0) < 0.95


@pytest.mark.parametrize("steps", [2, 3, 7, 20, 25, 30, 33, 50, 100, 120, 200])
def test_inversion_uses_the_noise_levels_of_the_host_for_every_number_of_steps(core: Core, scene: Scene, steps: int) -> None:
    import comfy.samplers
    import torch

    schedule = core("nodes._host_levels").levels_of(scene.model).schedule
    ours = core("faceprivacy_core.diffusion.schedules").ddim_sigmas(schedule, steps).float()
    host = comfy.samplers.calculate_sigmas(scene.model.get_model_object("model_sampling"), "ddim_uniform", steps)
    assert ours.shape == host.shape, f"The host makes {len(host) - 1} steps of {steps}."
    # Both are the same table in float32.
    torch.testing.assert_close(ours, host, rtol=1e-6, atol=0.0)
