"""MSI Inversion and Embedding Schedule inside the host: stock sampling returns to the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.weights

STAGES = 10
Core = Callable[[str], ModuleType]


@dataclass(frozen=True, eq=False)
class Scene:
    """A real crop, its latent and the built-in model."""

    model: Any
    vae: Any
    encoder: Any
    image: Tensor
    latent: Tensor


@pytest.fixture(autouse=True)
def _inside_the_host(host_nodes: ModuleType) -> Iterator[None]:
    """Run every test as the host runs a node."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def scene(host_nodes: ModuleType, pack_nodes: dict[str, Any]) -> Scene:
    import torch

    with torch.inference_mode():
        image = torch.from_numpy(graphs.sample(SAMPLE_PHOTO.parent / "portrait.jpg"))[None].float() / 255.0
        model, vae, encoder, size, _ = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
        face_mask = pack_nodes["FacePrivacy_FaceMask"]
        options = graphs.widget_defaults(face_mask) | {"which": "largest"}
        _, mask, faces, _ = face_mask.execute(image=image, **options).args
        crop = pack_nodes["FacePrivacy_FaceCrop"].execute(image, faces, mask, size).args[0]
        return Scene(model, vae, encoder, crop, vae.encode(crop))


@dataclass(frozen=True)
class RoundTrip:
    """An inversion and the way back through the host's own sampler."""

    error: float
    noise_std: float
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
            error = float((back["samples"] - scene.latent).norm() / scene.latent.norm())
            # In VE coordinates a latent of unit variance at level s has variance 1 + s^2.
            level = float(scene.model.get_model_object("model_sampling").sigmas[1 + (steps - 1) * (1000 // steps)])
            std = float(noise["samples"].std()) / (1.0 + level**2) ** 0.5
            assert bool(torch.isfinite(noise["samples"]).all())
            known[steps, iterations] = RoundTrip(error, std, float(residual))
        return known[steps, iterations]

    return run


@pytest.mark.parametrize(("steps", "bound"), [(20, 5e-3), (50, 5e-4)])
def test_stock_euler_returns_from_the_noise_map_to_the_picture(
    round_trip: Callable[[int, int], RoundTrip], steps: int, bound: float
) -> None:
    exact, naive = round_trip(steps, 5), round_trip(steps, 0)
    assert exact.error < bound
    assert naive.error > 10 * exact.error


def test_residual_tells_an_exact_inversion_from_a_plain_one(round_trip: Callable[[int, int], RoundTrip]) -> None:
    # The tooltip of the output promises that below 0.05 the picture comes back.
    assert round_trip(20, 5).residual < 0.05 < round_trip(20, 0).residual


def test_noise_map_has_the_spread_of_noise_only_when_iterated(round_trip: Callable[[int, int], RoundTrip]) -> None:
    # 1024 values of unit noise: 0.1 is 4.5 standard deviations of the estimate.
    assert 0.9 < round_trip(20, 5).noise_std < 1.1
    assert round_trip(20, 0).noise_std < 0.95


@pytest.mark.parametrize("steps", [2, 3, 7, 20, 25, 30, 33, 50, 100, 120, 200])
def test_inversion_uses_the_noise_levels_of_the_host_for_every_number_of_steps(core: Core, scene: Scene, steps: int) -> None:
    import comfy.samplers
    import torch

    schedule = core("nodes._host").noise_schedule(scene.model)
    ours = core("faceprivacy_core.diffusion.schedules").ddim_sigmas(schedule, steps).float()
    host = comfy.samplers.calculate_sigmas(scene.model.get_model_object("model_sampling"), "ddim_uniform", steps)
    assert ours.shape == host.shape, f"The host makes {len(host) - 1} steps of {steps}."
    # Both are the same table in float32.
    torch.testing.assert_close(ours, host, rtol=1e-6, atol=0.0)


# Conditioning ranges


def _active(scene: Scene, conditioning: list[Any], sigmas: list[float]) -> list[list[int]]:
    """Return which entries the host uses at each noise level, by its own rule."""
    import comfy.sampler_helpers
    import comfy.samplers
    import torch

    noise = torch.zeros_like(scene.latent)
    marked = [[tokens, {**options, "faceprivacy_test_index": i}] for i, (tokens, options) in enumerate(conditioning)]
    conds = {"positive": comfy.sampler_helpers.convert_cond(marked)}
    processed = comfy.samplers.process_conds(scene.model.model, noise, conds, noise.device, noise)["positive"]
    assert len(processed) == len(conditioning)
    return [
        [
            cond["faceprivacy_test_index"]
            for cond in processed
            if comfy.samplers.get_area_and_mult(cond, noise, torch.full((1,), sigma)) is not None
        ]
        for sigma in sigmas
    ]


def _levels(scene: Scene) -> list[float]:
    sigmas = scene.model.get_model_object("model_sampling").sigmas.tolist()
    assert len(sigmas) == 1000
    return sigmas


def _inversion(core: Core, scene: Scene, stages: int) -> Any:
    import torch

    empty = scene.encoder.empty_tokens()
    tokens = torch.randn(stages, 1, *empty.shape[1:])
    embeddings = core("faceprivacy_core.embeddings.inversion")
    return embeddings.FaceInversion(tokens, empty, embeddings.ModelIdentity("test"))


@pytest.mark.parametrize("stages", [1, STAGES])
@pytest.mark.parametrize(
    ("preset", "switch"),
    [("recover", 400), *(("anonymise", switch) for switch in (1, 2, 100, 333, 400, 401, 599, 700, 998, 999))],
)
def test_exactly_one_embedding_acts_at_every_noise_level_and_it_is_the_right_one(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, preset: str, switch: int, stages: int
) -> None:
    import torch

    rules = core("faceprivacy_core.embeddings.schedule")
    inversion = _inversion(core, scene, stages)
    positive, _ = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute(preset, switch, inversion).args
    schedule = rules.anonymise_schedule(switch) if preset == "anonymise" else rules.recover_schedule()
    found = _active(scene, positive, _levels(scene))
    assert [(t, entries) for t, entries in enumerate(found) if len(entries) != 1] == []
    wrong = []
    for timestep, (entry,) in enumerate(found):
        is_image = schedule.source_at(timestep) is rules.Source.IMAGE
        expected = inversion.embedding_at(timestep) if is_image else inversion.empty
        if not torch.equal(positive[entry][0], expected):
            wrong.append(timestep)
    assert wrong == []


def test_no_switch_leaves_a_noise_level_beside_it_without_an_embedding(
    pack_nodes: dict[str, Any], core: Core, scene: Scene
) -> None:
    levels, inversion = _levels(scene), _inversion(core, scene, 1)
    node, wrong = pack_nodes["FacePrivacy_EmbeddingSchedule"], []
    for switch in range(1, 1000):
        positive, _ = node.execute("anonymise", switch, inversion).args
        last = [[0]] if switch < 999 else []
        if _active(scene, positive, levels[switch - 1 : switch + 2]) != [[1], [0], *last]:
            wrong.append(switch)
    assert wrong == []


@pytest.mark.parametrize("switch", [1, 400, 999])
def test_exactly_one_of_two_prompts_acts_at_every_noise_level(pack_nodes: dict[str, Any], scene: Scene, switch: int) -> None:
    empty = scene.encoder.empty_tokens()
    positive, _ = (
        pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("anonymise", switch, None, [[empty + 1.0, {}]], [[empty, {}]]).args
    )
    found = _active(scene, positive, _levels(scene))
    assert found == [[1]] * switch + [[0]] * (1000 - switch)


@pytest.mark.parametrize("scheduler", ["karras", "exponential", "normal", "simple", "sgm_uniform", "beta"])
def test_exactly_one_embedding_acts_on_the_levels_of_every_scheduler(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, scheduler: str
) -> None:
    import comfy.samplers

    inversion = _inversion(core, scene, STAGES)
    positive, _ = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("anonymise", 400, inversion).args
    sampling = scene.model.get_model_object("model_sampling")
    levels = [
        level
        for steps in (4, 10, 20, 30, 50)
        for level in comfy.samplers.calculate_sigmas(sampling, scheduler, steps).tolist()
        if level > 0
    ]
    assert len(levels) > 100
    found = _active(scene, positive, levels)
    assert [(level, entries) for level, entries in zip(levels, found, strict=True) if len(entries) != 1] == []
