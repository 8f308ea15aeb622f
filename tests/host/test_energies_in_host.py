"""The further inputs of Energy Guidance inside the host: weights, memory, mask, chains and old workflows."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.support import graphs
from tests.support.host_models import VAES, tiny_unet
from tests.support.host_scenes import Core, Scene
from tests.support.recognizer import ProjectionRecognizer

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]

NODE = "FacePrivacy_EnergyGuidance"
OLD_INPUTS = [
    "model", "vae", "image", "crops", "recognizers",
    "strength", "diversity", "floor", "start_percent", "end_percent", "normalize",
]  # fmt: skip
OLD_VALUES = {
    "strength": 1.0, "diversity": 1.0, "floor": -1.0, "start_percent": 0.0, "end_percent": 1.0, "normalize": True,
}  # fmt: skip
NO_WEIGHTS = {"push_away": 0.0, "diversity": 0.0}


@pytest.fixture(scope="module")
def scene(scene: Scene) -> Scene:
    """A real crop, the built-in model, and recognisers that take no time."""
    return replace(scene, recognizers=(ProjectionRecognizer(), ProjectionRecognizer("other", seed=1)))


def _guided(pack_nodes: dict[str, Any], scene: Scene, **changed: Any) -> Any:
    inputs = {name: getattr(scene, name) for name in OLD_INPUTS[:5]} | OLD_VALUES | changed
    return pack_nodes[NODE].execute(**inputs).args[0]


def _call(model: Any, denoised: Tensor) -> Tensor:
    import torch

    (hook,) = model.model_options["sampler_post_cfg_function"]
    levels = torch.tensor([3.0, 1.0, 0.0])
    options = {"transformer_options": {"sample_sigmas": levels}}
    return hook({"denoised": denoised, "sigma": levels[:1], "model_options": options})


def _latents(scene: Scene, batch: int = 1, noise_level: float = 0.05) -> Tensor:
    import torch

    clean = scene.vae.encode(scene.image)
    noise = torch.randn(batch, *clean.shape[1:], generator=torch.Generator().manual_seed(1))
    return clean + noise_level * noise


def test_old_inputs_come_first_and_new_ones_may_be_missing(pack_nodes: dict[str, Any]) -> None:
    inputs = pack_nodes[NODE].GET_SCHEMA().inputs
    assert [entry.id for entry in inputs[: len(OLD_INPUTS)]] == OLD_INPUTS
    assert not any(entry.optional for entry in inputs[: len(OLD_INPUTS)])
    assert all(entry.optional for entry in inputs[len(OLD_INPUTS) :])


def test_node_without_the_new_inputs_is_the_node_with_their_defaults(pack_nodes: dict[str, Any], scene: Scene) -> None:
    import torch

    latents = _latents(scene, 2)
    defaults = {key: value for key, value in graphs.widget_defaults(pack_nodes[NODE]).items() if key not in OLD_VALUES}
    assert defaults == {
        "push_away": 1.0, "keep_identity": 0.0, "look_different": 0.0, "keep_landmarks": 0.0, "memory": "normal",
        "ceiling": 1.0, "look_target": 0.5,
    }  # fmt: skip
    old, new = _call(_guided(pack_nodes, scene), latents), _call(_guided(pack_nodes, scene, **defaults), latents)
    assert torch.equal(old, new)


@pytest.mark.parametrize("name", ["push_away", "keep_identity", "look_different", "keep_landmarks"])
def test_each_energy_alone_moves_the_estimate_to_a_lower_value(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, name: str
) -> None:
    import torch

    build, nodes_module = core("faceprivacy_core.guidance.build"), core("nodes.guidance")
    weights = NO_WEIGHTS | {name: 1.0}
    energy = nodes_module.crop_energy(
        scene.image, scene.crops, scene.recognizers, build.EnergyWeights(**weights), {"floor": -1.0}
    )
    decode = nodes_module.decoder(scene.model, scene.vae, "normal")
    # Looks are far from their target near the original only, everything else far from it only.
    start = _latents(scene, noise_level=0.05 if name == "look_different" else 0.5)
    # A step's length grows with the root of the latent's size, here 8192 values; a longer one steps over the minimum.
    moved = _call(_guided(pack_nodes, scene, **weights, strength=0.007), start)
    with torch.no_grad():
        assert float(energy(decode(moved))) < float(energy(decode(start)))


@pytest.mark.parametrize("vae_name", ["built-in", *VAES])
def test_low_memory_gives_the_same_estimate_and_leaves_no_trace(
    pack_nodes: dict[str, Any], scene: Scene, vae_name: str
) -> None:
    if vae_name != "built-in":
        scene = replace(scene, model=tiny_unet(), vae=VAES[vae_name]())
    latents = _latents(scene, 3)
    normal, low = (_call(_guided(pack_nodes, scene, memory=memory), latents) for memory in ("normal", "low"))
    change = float((normal - latents).norm())
    assert change > 1e-3
    # Batches of another size round differently in float32, which the kinks of TAESD's ReLUs enlarge; equal in float64.
    assert float((low - normal).norm()) < (0.02 if vae_name == "TAESD" else 1e-4) * change
    assert [module for module in scene.vae.first_stage_model.modules() if "forward" in module.__dict__] == []


def test_auto_takes_what_fits_and_says_so(
    core: Core, scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import comfy.model_management

    choose = core("nodes._host_memory").chosen_memory
    for free, expected in ((2**40, "normal"), (2**20, "low")):
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda _, free=free: free)
        with caplog.at_level("INFO"):
            assert choose("auto", scene.vae, 256, 2) == expected
        assert f"memory: {expected}. The gradient of 2 crops takes about" in caplog.text
    assert [choose(name, scene.vae, 256, 2) for name in ("normal", "low")] == ["normal", "low"]


def test_chain_with_percents_that_meet_decodes_once_in_every_step(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], core: Core, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    decoded: list[int] = []
    vae_class = core("nodes._host").ExactVae
    decode = vae_class.decode

    def counted(self: Any, latents: Tensor) -> Tensor:
        decoded.append(id(self))
        return decode(self, latents)

    monkeypatch.setattr(vae_class, "decode", counted)
    empty = [[scene.encoder.empty_tokens(), {}]]

    def sample(model: Any) -> Tensor:
        latent = {"samples": torch.zeros(1, 32, 16, 16)}
        return host_nodes.common_ksampler(model, 3, 5, 1.0, "euler", "ddim_uniform", empty, empty, latent)[0]["samples"]

    early = _guided(pack_nodes, scene, end_percent=0.5)
    chain = _guided(pack_nodes, scene, model=early, start_percent=0.5, push_away=0.0, keep_identity=1.0)
    both = sample(chain)
    assert len(decoded) == 5
    assert {decoded.count(vae) for vae in set(decoded)} == {2, 3}, "Each node guides its own steps."
    assert not torch.equal(both, sample(early))
    assert not torch.equal(both, sample(scene.model))


def test_mask_says_where_looks_count(pack_nodes: dict[str, Any], scene: Scene) -> None:
    import torch

    weights = NO_WEIGHTS | {"look_different": 1.0}
    latents = _latents(scene)
    masked, whole = (_call(_guided(pack_nodes, scene, **weights, mask=mask), latents) for mask in (scene.mask, None))
    assert not torch.equal(masked, whole)


def test_networks_without_a_weight_are_not_loaded(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> NoReturn:
        pytest.fail("A network without a weight was loaded.")

    for name in ("load_perceptual", "load_landmarker"):
        monkeypatch.setattr(core("nodes.guidance"), name, refuse)
    _guided(pack_nodes, scene)


def test_what_cannot_be_guided_is_refused(pack_nodes: dict[str, Any], core: Core, scene: Scene) -> None:
    import torch

    class Detached(ProjectionRecognizer):
        def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
            return super().embed(images, landmarks5).detach()

    errors = core("faceprivacy_core.errors")
    with pytest.raises(errors.InputError, match="at least one energy with a weight above 0"):
        _guided(pack_nodes, scene, **NO_WEIGHTS)
    with pytest.raises(errors.InputError, match="Expected 1 original crops"):
        _guided(pack_nodes, scene, image=scene.image.repeat(2, 1, 1, 1))
    with pytest.raises(errors.InputError, match="mask of shape"):
        _guided(pack_nodes, scene, look_different=1.0, mask=torch.ones(1, 64, 64))
    with pytest.raises(errors.UnsupportedModelError, match="gradients pass through, got opaque"):
        _guided(pack_nodes, scene, recognizers=(Detached("opaque"),))
