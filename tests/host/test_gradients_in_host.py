"""Energy Guidance inside the host: gradients in inference mode, frozen weights, and the core's own result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host_models import VAES, tiny_unet
from tests.support.host_scenes import Core, Scene
from tests.support.recognizer import ProjectionRecognizer

if TYPE_CHECKING:
    from torch import Tensor, nn

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]

STEPS = 5


@pytest.fixture(scope="module")
def scene(pack_nodes: dict[str, Any], scene: Scene) -> Scene:
    """A real crop, the built-in model, and the recognisers that guide by default."""
    import torch

    with torch.inference_mode():
        (recognizers,) = pack_nodes["FacePrivacy_LoadFaceRecognizers"].execute("surrogates").args
    return replace(scene, recognizers=recognizers)


def _guided(pack_nodes: dict[str, Any], scene: Scene, model: Any, vae: Any, **changed: Any) -> Any:
    # A floor of -1 is never reached, so the energy of any picture has a slope.
    settings = {
        "strength": 1.0, "diversity": 1.0, "floor": -1.0, "start_percent": 0.0, "end_percent": 1.0, "normalize": True,
    } | changed  # fmt: skip
    node = pack_nodes["FacePrivacy_EnergyGuidance"]
    return node.execute(model, vae, scene.image, scene.crops, scene.recognizers, **settings).args[0]


def _model_and_vae(scene: Scene, vae_name: str) -> tuple[Any, Any]:
    """The built-in pair, or a tiny MODEL with one of the host's VAEs, which have four channels."""
    return (scene.model, scene.vae) if vae_name == "built-in" else (tiny_unet(), VAES[vae_name]())


def _latent(scene: Scene, model: Any, batch: int = 1) -> dict[str, Tensor]:
    """Draw latents as the MODEL has them for the scene's crop."""
    import torch

    form = model.get_model_object("latent_format")
    side = scene.image.shape[1] // form.spacial_downscale_ratio
    return {"samples": torch.randn(batch, form.latent_channels, side, side, generator=torch.Generator().manual_seed(1))}


def _sample(host_nodes: ModuleType, scene: Scene, model: Any, *, batch: int = 1, **changed: Any) -> Tensor:
    settings = {"sampler_name": "euler", "scheduler": "ddim_uniform", "denoise": 0.6} | changed
    empty = [[scene.encoder.empty_tokens(), {}]]
    (latent,) = host_nodes.common_ksampler(
        model, 3, STEPS, 1.0, positive=empty, negative=empty, latent=_latent(scene, model, batch), **settings
    )  # fmt: skip
    return latent["samples"]


def _hook(model: Any) -> Callable[[dict[str, Any]], Tensor]:
    (hook,) = model.model_options["sampler_post_cfg_function"]
    return hook


def _call(hook: Callable[[dict[str, Any]], Tensor], denoised: Tensor) -> Tensor:
    import torch

    levels = torch.tensor([3.0, 1.0, 0.0])
    options = {"transformer_options": {"sample_sigmas": levels}}
    return hook({"denoised": denoised, "sigma": levels[:1], "model_options": options})


def _anonymization_energy(core: Core, scene: Scene, *, diversity: float) -> Any:
    build = core("faceprivacy_core.guidance.build")
    originals = scene.image.permute(0, 3, 1, 2).clone()
    weights = build.EnergyWeights(1.0, diversity)
    return build.build_energy(originals, scene.crops, scene.recognizers, weights, floor=-1.0)


def _modules(scene: Scene, model: Any, vae: Any) -> list[nn.Module]:
    return [model.model, vae.first_stage_model, *scene.recognizers, scene.encoder.token_head]


@pytest.mark.parametrize("vae_name", ["built-in", *VAES])
@pytest.mark.parametrize("normalize", [True, False])
def test_hook_moves_the_estimate_by_a_finite_gradient_with_every_kind_of_vae(
    pack_nodes: dict[str, Any], scene: Scene, vae_name: str, normalize: bool
) -> None:
    import torch

    model, vae = _model_and_vae(scene, vae_name)
    hook = _hook(_guided(pack_nodes, scene, model, vae, normalize=normalize))
    denoised = _latent(scene, model, 2)["samples"]
    kept = denoised.clone()
    moved = _call(hook, denoised)
    change = (moved - denoised).flatten(1).norm(dim=1)
    assert torch.equal(denoised, kept), "The hook wrote into its input."
    assert bool(torch.isfinite(moved).all())
    assert bool((change > 1e-6).all()), change


def test_hook_lowers_the_similarity_that_it_differentiates(pack_nodes: dict[str, Any], core: Core, scene: Scene) -> None:
    import torch

    energy = _anonymization_energy(core, scene, diversity=0.0)
    decode = core("nodes._host").ExactVae(scene.model, scene.vae).decode
    start = scene.vae.encode(scene.image)
    moved = _call(_hook(_guided(pack_nodes, scene, scene.model, scene.vae, strength=0.2, diversity=0.0)), start)
    with torch.no_grad():
        before, after = float(energy(decode(start))), float(energy(decode(moved)))
    assert after < before


@pytest.mark.parametrize("vae_name", ["built-in", *VAES])
def test_guided_sampling_changes_no_weight_and_leaves_no_gradient(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene, vae_name: str
) -> None:
    import torch

    model, vae = _model_and_vae(scene, vae_name)
    modules = _modules(scene, model, vae)
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    guided = _guided(pack_nodes, scene, model, vae)
    result = _sample(host_nodes, scene, guided)
    plain = _sample(host_nodes, scene, model)
    assert bool(torch.isfinite(result).all())
    assert float((result - plain).abs().max()) > 1e-4, "The guidance did nothing."
    for module, kept in zip(modules, before, strict=True):
        state = module.state_dict()
        assert len(state) == len(kept) > 0
        assert [name for name, value in state.items() if not torch.equal(value, kept[name])] == []
        assert [name for name, weight in module.named_parameters() if weight.grad is not None] == []
    assert "sampler_post_cfg_function" not in model.model_options, "The MODEL that came in was patched."


def test_guidance_of_strength_0_is_exactly_no_guidance(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene
) -> None:
    import torch

    plain = _sample(host_nodes, scene, scene.model)
    idle = _guided(pack_nodes, scene, scene.model, scene.vae, strength=0.0)
    assert torch.equal(_sample(host_nodes, scene, idle), plain)
    assert not torch.equal(_sample(host_nodes, scene, _guided(pack_nodes, scene, scene.model, scene.vae)), plain)


@pytest.mark.parametrize("is_guided", [False, True], ids=["plain", "guided"])
def test_equal_conditions_cost_one_evaluation_a_step_and_cfg_changes_nothing(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene, is_guided: bool
) -> None:

    rows: list[int] = []

    def count(apply: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
        rows.append(len(given["input"]))
        return apply(given["input"], given["timestep"], **given["c"])

    counted = scene.model.clone()
    counted.set_model_unet_function_wrapper(count)
    model = _guided(pack_nodes, scene, counted, scene.vae) if is_guided else counted
    empty, found = [[scene.encoder.empty_tokens(), {}]], {}
    for cfg in (1.0, 10.0):
        rows.clear()
        (latent,) = host_nodes.common_ksampler(
            model, 3, STEPS, cfg, "euler", "ddim_uniform", positive=empty, negative=empty, latent=_latent(scene, model),
            denoise=0.6,
        )  # fmt: skip
        found[cfg] = latent["samples"], sum(rows)
    assert found[1.0][1] == STEPS, "cfg 1 must not evaluate the negative condition."
    assert found[10.0][1] == 2 * STEPS
    if not is_guided:  # an energy's normalised gradient makes much of the rounding between batches of one and two
        assert float((found[1.0][0] - found[10.0][0]).abs().max()) <= 1e-5


def test_guidance_outside_its_percents_is_exactly_no_guidance(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene
) -> None:
    import torch

    # Denoise 0.6 begins below 60 % of the timesteps, so the first 30 % never come.
    early = _guided(pack_nodes, scene, scene.model, scene.vae, start_percent=0.0, end_percent=0.3)
    assert torch.equal(_sample(host_nodes, scene, early), _sample(host_nodes, scene, scene.model))


@pytest.mark.parametrize("masked", [False, True], ids=["whole crop", "masked"])
@pytest.mark.parametrize("variants", [1, 2])
def test_stock_sampler_with_the_hook_equals_the_guided_sampler_of_the_core(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, variants: int, masked: bool
) -> None:
    """The core's sampler follows the host's estimates, and its own estimates must be theirs.

    Left to itself it drifts: the leaky ReLUs of the built-in decoder have kinks, across which the gradient jumps, so that
    rounding of an estimate by 1e-6 moves the next latent by 1e-3. The recognisers that guide are smooth.
    """
    import comfy.sample
    import comfy.samplers
    import torch

    samplers, schedules = (core(f"faceprivacy_core.diffusion.{name}") for name in ("samplers", "schedules"))
    schedule = core("faceprivacy_core.embeddings.schedule")
    guided_module, scheduled = core("faceprivacy_core.guidance.guided"), core("faceprivacy_core.embeddings.scheduled")
    face_model = core("faceprivacy_core.builtin.model").load_face_model()
    scene = replace(scene, recognizers=(ProjectionRecognizer(), ProjectionRecognizer("other", seed=1)))
    inversion, _, _ = (
        pack_nodes["FacePrivacy_MsiInversion"].execute(scene.model, scene.vae, scene.encoder, scene.image, False, 20, 5).args
    )
    latent = scene.vae.encode(scene.image).repeat(variants, 1, 1, 1)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(5))
    sigmas = schedules.ddim_sigmas(face_model.denoiser.schedule, 10, 0.6).float()
    side = latent.shape[-1]
    latent_mask = torch.ones(1, 1, side, side)
    if masked:
        latent_mask[..., : side // 4] = 0.0
        latent_mask[..., : side // 4, :] = 0.0

    # The host
    estimates: list[Tensor] = []

    def record(given: dict[str, Any]) -> Tensor:
        estimates.append(given["denoised"].clone())
        return given["denoised"]

    recorded = scene.model.clone()
    recorded.set_model_sampler_post_cfg_function(record)
    model = _guided(pack_nodes, scene, recorded, scene.vae)
    positive, negative = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("anonymise", 400, inversion).args
    pixel_mask = torch.nn.functional.interpolate(latent_mask, size=scene.image.shape[1:3], mode="nearest")
    from_host = comfy.sample.sample_custom(
        model, noise, 1.0, comfy.samplers.sampler_object("euler"), sigmas, positive, negative, latent,
        noise_mask=pixel_mask if masked else None,
    )  # fmt: skip

    # The core
    energy = _anonymization_energy(core, scene, diversity=1.0)
    guidance = guided_module.EnergyGuidance(
        energy,
        lambda z: ((face_model.autoencoder.decode(z) + 1.0) / 2.0).clamp(0.0, 1.0),
        face_model.denoiser.schedule,
    )
    denoiser = scheduled.ScheduledDenoiser(
        face_model.denoiser, face_model.denoiser.schedule, inversion, schedule.anonymise_schedule(400)
    )
    background = samplers.Background(latent, noise, latent_mask)
    start = background.restore(latent + sigmas[0] * noise, float(sigmas[0]))
    found: list[Tensor] = []

    def follow(x: Tensor, sigma: float, cond: object) -> Tensor:
        found.append(denoiser(x, sigma, cond))
        return estimates[len(found) - 1].clone()

    with torch.inference_mode(False), torch.no_grad():
        from_core = samplers.sample_euler(follow, start.clone(), sigmas, None, edit_denoised=guidance, background=background)
    assert len(guidance.history) == len(found) == len(estimates) == len(sigmas) - 1
    plain = comfy.sample.sample_custom(
        scene.model, noise, 1.0, comfy.samplers.sampler_object("euler"), sigmas, positive, negative, latent,
        noise_mask=pixel_mask if masked else None,
    )  # fmt: skip
    assert float((from_host - plain).abs().max()) > 0.05, "The guidance did too little to be compared."
    # Two implementations of one UNet in float32; latents have unit variance.
    torch.testing.assert_close(found, estimates, rtol=0.0, atol=1e-4)
    # The same networks on the same estimates
    torch.testing.assert_close(from_host, from_core, rtol=0.0, atol=1e-5)
    if masked:
        kept = latent_mask.expand_as(latent) == 0
        torch.testing.assert_close(from_host[kept], latent[kept], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.05, 1.0])
def test_hook_equals_the_edit_of_the_core_for_the_same_estimate(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, strength: float
) -> None:
    import torch

    face_model = core("faceprivacy_core.builtin.model").load_face_model()
    energy = _anonymization_energy(core, scene, diversity=1.0)
    guidance = core("faceprivacy_core.guidance.guided").EnergyGuidance(
        energy,
        lambda z: ((face_model.autoencoder.decode(z) + 1.0) / 2.0).clamp(0.0, 1.0),
        face_model.denoiser.schedule,
        strength,
    )
    denoised = _latent(scene, scene.model, 2)["samples"]
    from_host = _call(_hook(_guided(pack_nodes, scene, scene.model, scene.vae, strength=strength)), denoised)
    from_core = guidance(denoised, 3.0, 1.0)
    assert float((from_core - denoised).abs().max()) > 1e-3
    # The same networks in float32 on the same numbers; the noise levels are stored as float32 by the host.
    torch.testing.assert_close(from_host, from_core, rtol=0.0, atol=1e-5)


def test_guidance_is_refused_while_noise_rises(pack_nodes: dict[str, Any], core: Core, scene: Scene) -> None:
    error = core("faceprivacy_core.errors").UnsupportedModelError
    guided = _guided(pack_nodes, scene, scene.model, scene.vae)
    node = pack_nodes["FacePrivacy_MsiInversion"]
    with pytest.raises(error, match=r"from high to low noise.*without guidance for inversion"):
        node.execute(guided, scene.vae, scene.encoder, scene.image, True, 4, 1)


def test_guidance_is_refused_without_a_list_of_noise_levels(pack_nodes: dict[str, Any], core: Core, scene: Scene) -> None:
    import torch

    hook = _hook(_guided(pack_nodes, scene, scene.model, scene.vae))
    error = core("faceprivacy_core.errors").UnsupportedModelError
    for options in ({}, {"transformer_options": {}}):
        with pytest.raises(error, match="fixed list of levels"):
            hook({"denoised": _latent(scene, scene.model)["samples"], "sigma": torch.tensor([1.0]), "model_options": options})
