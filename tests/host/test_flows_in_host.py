"""Flow models of the host's own classes (SD3, Flux) at tiny size with random weights, in the block graphs: laws, not looks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import graphs
from tests.support.faces import synthetic_face
from tests.support.host_models import FLOW_POOLED, FLOWS, flow_vae, tiny_clip, told_flow, with_faint_output
from tests.support.host_scenes import Core
from tests.support.keys import FOLDER, ensure_key
from tests.support.recognizer import ProjectionRecognizer

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.usefixtures("inside_the_host")

SIZE, STEPS = 64, 10
HEIGHT, WIDTH = 180, 240
GUIDANCE = {"strength": 1.0, "diversity": 0.0, "floor": -1.0, "start_percent": 0.0, "end_percent": 1.0, "normalize": True}


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with one face, as nodes hand it on, and the face's crop."""

    photo: Tensor
    faces: Any
    photo_mask: Tensor
    image: Tensor
    crops: Any
    recognizers: tuple[Any, ...] = (ProjectionRecognizer(),)


@dataclass(frozen=True, eq=False)
class Flow:
    """A checkpoint of one family, and what it is used on."""

    model: Any
    vae: Any
    positive: list[Any]
    scene: Scene

    @property
    def latent(self) -> Tensor:
        """What the stock node VAE Encode makes of the crop."""
        return self.vae.encode(self.scene.image)


@pytest.fixture(scope="module")
def small(pack_nodes: dict[str, Any], core: Core) -> Scene:
    import torch

    types, masks = core("faceprivacy_core.types"), core("faceprivacy_core.masks")
    with torch.inference_mode():
        coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(5))
        photo = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear").movedim(1, -1)
        photo = (255.0 * photo).round() / 255.0
        faces = types.Faces((synthetic_face(110, 90, 130),), 1, HEIGHT, WIDTH)
        mask = masks.draw_masks(faces, masks.MaskSettings(masks.Region.INNER_FACE))
        image, _, crops = pack_nodes["FacePrivacy_FaceCrop"].execute(photo, faces, mask, SIZE).args
    return Scene(photo, faces, mask, image, crops)


@pytest.fixture(scope="module")
def make(small: Scene) -> Callable[[str], Flow]:
    """Make a checkpoint of a family, once; it predicts little, so that its steps can be taken back."""
    import torch

    def load(family: str) -> Flow:
        with torch.inference_mode():
            model, key = FLOWS[family]
            return Flow(with_faint_output(model(), key), flow_vae(), told_flow(), small)

    return functools.cache(load)


@pytest.fixture(params=FLOWS)
def flow(make: Callable[[str], Flow], request: pytest.FixtureRequest) -> Flow:
    return make(request.param)


def _told(model: Any) -> tuple[Any, list[tuple[float, Tensor]]]:
    """Return a MODEL that notes what it is told at every level."""
    noted: list[tuple[float, Tensor]] = []

    def note(apply: Callable[..., Any], given: dict[str, Any]) -> Any:
        noted.append((float(given["timestep"][0]), given["c"]["c_crossattn"].clone()))
        return apply(given["input"], given["timestep"], **given["c"])

    watched = model.clone()
    watched.set_model_unet_function_wrapper(note)
    return watched, noted


def _guided(pack_nodes: dict[str, Any], flow: Flow, **changed: Any) -> Any:
    scene, node = flow.scene, pack_nodes["FacePrivacy_EnergyGuidance"]
    return node.execute(
        flow.model, flow.vae, scene.image, scene.crops, scene.recognizers, **GUIDANCE | changed
    ).args[0]  # fmt: skip


def test_levels_are_those_of_the_host(core: Core, flow: Flow) -> None:
    import comfy.samplers
    import torch

    levels = core("nodes._host_levels").levels_of(flow.model)
    sigmas = core("faceprivacy_core.diffusion.schedules").ddim_sigmas(levels.schedule, STEPS)
    host = comfy.samplers.calculate_sigmas(flow.model.get_model_object("model_sampling"), "ddim_uniform", STEPS)
    torch.testing.assert_close(levels.of_host(sigmas), host, rtol=1e-6, atol=0.0)
    assert levels.of_core(float(host[3])) == pytest.approx(float(sigmas[3]), rel=1e-5)
    assert levels.of_core(1.0) == float("inf")
    assert bool((levels.schedule.sigmas.diff() > 0).all())
    assert bool(torch.isfinite(levels.schedule.sigmas).all())


def test_stock_euler_is_the_sampler_of_the_core(core: Core, keyed_model: Callable[..., Any], flow: Flow) -> None:
    import comfy.sample
    import comfy.samplers
    import torch

    levels = core("nodes._host_levels").levels_of(flow.model)
    sigmas = core("faceprivacy_core.diffusion.schedules").ddim_sigmas(levels.schedule, STEPS)
    form = flow.model.get_model_object("latent_format")
    noise = torch.randn(flow.latent.shape, generator=torch.Generator().manual_seed(5))
    from_host = comfy.sample.sample_custom(
        flow.model, noise, 1.0, comfy.samplers.sampler_object("euler"), levels.of_host(sigmas), flow.positive, flow.positive,
        flow.latent,
    )  # fmt: skip
    latent = flow.latent
    with torch.inference_mode(False):
        start = form.process_in(latent.clone()) + float(sigmas[0]) * noise.clone()
        euler = core("faceprivacy_core.diffusion.samplers").sample_euler
        from_core = keyed_model(flow.model, flow.vae, flow.positive).run(
            lambda denoiser, falling: euler(denoiser, start, falling, None), start, STEPS
        )
    torch.testing.assert_close(form.process_in(from_host), from_core, rtol=0.0, atol=1e-4)


def test_a_guided_step_of_euler_is_the_papers(pack_nodes: dict[str, Any], core: Core, flow: Flow) -> None:
    """In the core's coordinates it goes to x0 + (s'/s)(x - x0) - lambda sqrt(1 + s'^2) g."""
    import torch

    (hook,) = _guided(pack_nodes, flow).model_options["sampler_post_cfg_function"]
    high, low = torch.tensor([0.8, 0.5])
    denoised, z = (torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))

    options = {"transformer_options": {"sample_sigmas": torch.stack([high, low, torch.zeros(())])}}
    edited = hook({"denoised": denoised, "sigma": high[None], "model_options": options})
    landed = z + (z - edited) / high * (low - high)
    sigma, sigma_next = (float(level / (1.0 - level)) for level in (high, low))
    plain = denoised + (sigma_next / sigma) * (z / (1.0 - high) - denoised)
    push = (plain - landed / (1.0 - low)) / (1.0 + sigma_next**2) ** 0.5
    schedule = core("nodes._host_levels").levels_of(flow.model).schedule
    span = schedule.continuous_timestep(sigma) - schedule.continuous_timestep(sigma_next)
    guided = core("faceprivacy_core.guidance.guided")
    wanted = guided.UNIT_STEP * span * guided.REFERENCE_STEPS / len(schedule)
    assert float(push.square().mean().sqrt()) == pytest.approx(wanted, rel=1e-3)


def test_strength_0_is_exactly_no_guidance(host_nodes: ModuleType, pack_nodes: dict[str, Any], flow: Flow) -> None:
    import torch

    latent = {"samples": flow.latent}
    results = [
        host_nodes.common_ksampler(model, 3, 4, 1.0, "euler", "ddim_uniform", flow.positive, flow.positive, latent)[0][
            "samples"
        ]
        for model in (flow.model, _guided(pack_nodes, flow, strength=0.0))
    ]
    assert torch.equal(*results)


def test_pure_noise_at_the_start_is_guided(host_nodes: ModuleType, pack_nodes: dict[str, Any], flow: Flow) -> None:
    """Most schedulers begin a flow at level 1, which is infinite in the core's coordinates."""
    import torch

    latent = {"samples": torch.zeros_like(flow.latent)}
    results = [
        host_nodes.common_ksampler(model, 3, 4, 1.0, "euler", "simple", flow.positive, flow.positive, latent)[0]["samples"]
        for model in (flow.model, _guided(pack_nodes, flow))
    ]
    assert bool(torch.isfinite(results[1]).all())
    assert float((results[1] - results[0]).abs().max()) > 1e-3


def test_the_schedule_tells_the_picture_first_and_then_nothing(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], flow: Flow
) -> None:
    import torch

    picture, empty = told_flow(), told_flow(0.0)
    node = pack_nodes["FacePrivacy_EmbeddingSchedule"]
    positive, negative = node.execute("anonymise", 400, None, picture, empty).args
    model, noted = _told(flow.model)
    host_nodes.common_ksampler(
        model, 3, 20, 1.0, "euler", "ddim_uniform", positive, negative, {"samples": flow.latent}
    )  # fmt: skip
    switch = float(flow.model.get_model_object("model_sampling").percent_to_sigma(1.0 - 400 / 999))
    assert len(noted) == 20
    assert {level > switch for level, _ in noted} == {True, False}
    for level, tokens in noted:
        assert torch.equal(tokens.cpu(), (picture if level > switch else empty)[0][0]), level


def test_stock_euler_returns_from_the_noise_map_to_the_picture(host_nodes: ModuleType, core: Core, flow: Flow) -> None:
    import torch

    embeddings = core("faceprivacy_core.embeddings.inversion")
    (tokens, more), (empty, _) = told_flow()[0], told_flow(0.0)[0]
    told = embeddings.FaceInversion(
        tokens[None], empty, embeddings.ModelIdentity("test"), more["pooled_output"][None], torch.zeros(1, FLOW_POOLED)
    )
    latent, errors, residuals = flow.latent, [], []
    schedule = core("faceprivacy_core.embeddings.schedule").recover_schedule()
    for iterations in (5, 0):
        result, noise, _ = core("nodes.inversion").invert_in_host(flow.model, latent, told, 20, iterations)
        positive = core("nodes.schedule").to_conditioning(told, schedule)
        (back,) = host_nodes.KSamplerAdvanced().sample(
            flow.model, "disable", 0, 20, 1.0, "euler", "ddim_uniform", positive, positive, {"samples": noise}, 0, 10000,
            "disable",
        )  # fmt: skip
        errors.append(float((back["samples"] - latent).norm() / latent.norm()))
        residuals.append(result.residual)
    assert errors[0] < 5e-3
    assert residuals[0] < 0.05
    assert errors[1] > 10 * errors[0]
    assert bool(torch.isfinite(noise).all())


def test_msi_inversion_refuses_the_text_encoders_of_flux(
    pack_nodes: dict[str, Any], core: Core, make: Callable[[str], Flow]
) -> None:
    errors, flux, node = core("faceprivacy_core.errors"), make("Flux"), pack_nodes["FacePrivacy_MsiInversion"]
    given = {"image": flux.scene.image, "strategy": "stage tokens", "learn_steps": 1}
    with pytest.raises(errors.UnsupportedModelError, match=r"CLIP of SD1.x.*encoders l, t5xxl"):
        node.execute(flux.model, flux.vae, clip=tiny_clip("flux"), **given)
    with pytest.raises(errors.InputError, match=r"CLIP that belongs to the MODEL, whose conditions are 96 wide"):
        node.execute(make("SD3").model, flux.vae, clip=tiny_clip("sdxl"), **given)


def test_sd3_learns_words_and_comes_back_from_its_noise_map(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], core: Core, make: Callable[[str], Flow]
) -> None:
    import torch

    flow, clip = make("SD3"), tiny_clip("sd3")
    space = core("nodes._host_text").TextTokens(flow.model, clip, trainable=False)
    told, pooled = clip.encode_from_tokens(clip.tokenize(""), return_pooled=True)
    torch.testing.assert_close(space.empty.tokens, told[..., : space.empty.tokens.shape[-1]].cpu(), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(space.empty.pooled, pooled.cpu(), rtol=0.0, atol=1e-5)
    inversion, noise, residual = pack_nodes["FacePrivacy_MsiInversion"].PREPARE_CLASS_CLONE(None).execute(
        flow.model, flow.vae, clip=clip, image=flow.scene.image, strategy="stage tokens", learn_steps=2, noise_map=True,
        steps=STEPS,
    ).args  # fmt: skip
    assert set(inversion.tokens) == {"l", "g"}
    assert residual < 0.05
    positive, negative = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("recover", 0, inversion).args
    (back,) = host_nodes.KSamplerAdvanced().sample(
        flow.model, "disable", 0, STEPS, 1.0, "euler", "ddim_uniform", positive, negative, noise, 0, 10000, "disable"
    )  # fmt: skip
    assert float((back["samples"] - flow.latent).norm() / flow.latent.norm()) < 0.01


@pytest.fixture
def handle(pack_nodes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / FOLDER))
    ensure_key(tmp_path, "default")
    return pack_nodes["FacePrivacy_PrivacyKey"].execute("default").args[0]


def test_a_keyed_face_comes_back_by_its_own_model_alone(
    pack_nodes: dict[str, Any], core: Core, flow: Flow, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VAE's weights are random: `latent` brings back what it makes of the face, and `image` comes nearer to that."""
    monkeypatch.setattr(core("nodes.keyed"), "CoverCheck", lambda *_: None)  # random weights draw no faces
    monkeypatch.setattr(core("faceprivacy_core.keyed.modes.image"), "REFINEMENTS", 30)
    scene, parts = flow.scene, {"model": flow.model, "vae": flow.vae, "positive": flow.positive}
    encrypt, decrypt = pack_nodes["FacePrivacy_KeyedEncrypt"], pack_nodes["FacePrivacy_KeyedDecrypt"]
    found = {}
    for mode, other in (("latent", {"vae": flow_vae(1)}), ("image", {"positive": told_flow(0.5)})):
        settings = graphs.widget_defaults(encrypt) | {"size": SIZE, "steps": 4, "mode": mode, "verify": mode == "latent"}
        made = encrypt.execute(scene.photo, scene.faces, scene.photo_mask, handle, **settings, **parts).args
        assert f"mode {mode}" in made[2]
        found[mode] = made[1], decrypt.execute(made[0], handle, "", **parts).args[0]
        with pytest.raises(core("faceprivacy_core.errors").ModelMismatchError):
            decrypt.execute(made[0], handle, "", **parts | other)
    (_, wanted), (published, back) = found["latent"], found["image"]
    changed = (published != scene.photo).any(dim=-1)
    assert 1000 < int(changed.sum()) < changed.numel() / 2
    before, after = (float((picture - wanted)[changed].pow(2).mean()) for picture in (published, back))
    assert after < 0.5 * before


def test_cloaking_changes_the_face_and_a_stock_sampler_finishes_it(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], core: Core, flow: Flow
) -> None:
    import comfy.sample
    import comfy.samplers
    import torch

    node, scene = pack_nodes["FacePrivacy_AdversarialLatent"], flow.scene
    given = graphs.widget_defaults(node) | {
        "model": flow.model, "vae": flow.vae, "positive": flow.positive, "size": SIZE, "image": scene.photo,
        "faces": scene.faces, "recognizers": scene.recognizers, "iterations": 2, "structure_weight": 0.0,
        "require_protection": False, "attempts": 1,
    }  # fmt: skip
    image, latent, conditioning, sigmas, *_ = node.execute(**given).args
    assert not torch.equal(image, scene.photo)
    assert 0.0 < float(sigmas[0]) < 1.0
    finished = comfy.sample.sample_custom(
        flow.model, torch.zeros_like(latent["samples"]), 1.0, comfy.samplers.sampler_object("euler"), sigmas, conditioning,
        conditioning, latent["samples"],
    )  # fmt: skip
    assert bool(torch.isfinite(finished).all())
    with pytest.raises(core("faceprivacy_core.errors").UnsupportedModelError, match=r"Expected for a structure weight a model"):
        node.execute(**given | {"structure_weight": 1.0})
