"""Models, files and tensors that do not fit are refused by the nodes, each by its own error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import graphs
from tests.support.host_scenes import Core, Scene

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]

MASK = "FacePrivacy_FaceMask"


@pytest.fixture(scope="module")
def scene(pack_nodes: dict[str, Any], scene: Scene) -> Scene:
    """A real crop, the built-in model, and one recogniser."""
    import torch

    with torch.inference_mode():
        (recognizers,) = pack_nodes["FacePrivacy_LoadFaceRecognizers"].execute("mobilefacenet-v1").args
    return replace(scene, recognizers=recognizers)


@pytest.fixture(scope="module")
def errors(core: Core) -> ModuleType:
    """The pack's error types, under the name by which the host loaded them."""
    return core("faceprivacy_core.errors")


def _guide(pack_nodes: dict[str, Any], scene: Scene, **changed: Any) -> Any:
    names = ("model", "vae", "image", "crops", "recognizers")
    given = {name: getattr(scene, name) for name in names} | changed
    settings = {"strength": 1.0, "diversity": 1.0, "floor": -1.0, "start_percent": 0.0, "end_percent": 1.0, "normalize": True}
    return pack_nodes["FacePrivacy_EnergyGuidance"].execute(**given, **settings).args[0]


@pytest.fixture
def edm_model(host_nodes: ModuleType, scene: Scene) -> Any:
    """The built-in MODEL with the sampling of a model that knows no timesteps, made by the host's own node."""
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    return ModelSamplingContinuousEDM().patch(scene.model, "edm", 120.0, 0.002)[0]


def test_guidance_refuses_a_model_without_a_list_of_levels(
    pack_nodes: dict[str, Any], scene: Scene, errors: ModuleType, edm_model: Any
) -> None:
    with pytest.raises(errors.UnsupportedModelError, match=r"predicts noise or v.*EDM.*Connect a model"):
        _guide(pack_nodes, scene, model=edm_model)


def test_inversion_refuses_a_model_without_a_list_of_levels(
    pack_nodes: dict[str, Any], scene: Scene, errors: ModuleType, edm_model: Any
) -> None:
    inversion = pack_nodes["FacePrivacy_MsiInversion"]
    with pytest.raises(errors.UnsupportedModelError, match="predicts noise or v"):
        inversion.execute(edm_model, scene.vae, scene.encoder, scene.image, True, 20, 5)


@pytest.mark.parametrize("name", ["SD3", "Flux", "HunyuanVideo"])
def test_guidance_refuses_a_model_with_other_latents(
    pack_nodes: dict[str, Any], scene: Scene, errors: ModuleType, name: str
) -> None:
    import comfy.latent_formats

    other = scene.model.clone()
    other.add_object_patch("latent_format", getattr(comfy.latent_formats, name)())
    with pytest.raises(errors.UnsupportedModelError, match=r"VAE with 16 latent channels.*got one with 32.*Connect"):
        _guide(pack_nodes, scene, model=other)


def test_guidance_refuses_a_vae_with_16_latent_channels(pack_nodes: dict[str, Any], scene: Scene, errors: ModuleType) -> None:
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    vae = comfy.sd.VAE(sd=TAESD(latent_channels=16).state_dict())
    assert vae.latent_channels == 16
    with pytest.raises(errors.UnsupportedModelError, match=r"VAE with 32 latent channels.*got one with 16.*Connect"):
        _guide(pack_nodes, scene, vae=vae)


def test_guidance_refuses_crops_of_another_count(pack_nodes: dict[str, Any], scene: Scene, errors: ModuleType) -> None:
    with pytest.raises(errors.InputError, match="Expected 1 original crops and at least one recogniser, got 2 and 1"):
        _guide(pack_nodes, scene, image=scene.image.repeat(2, 1, 1, 1))


def test_running_out_of_memory_in_the_decoder_passes_through_untouched(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    full = torch.OutOfMemoryError("Allocation on device 0 failed.")

    def decode(self: object, latents: torch.Tensor) -> torch.Tensor:
        raise full

    model = _guide(pack_nodes, scene)
    monkeypatch.setattr(type(scene.vae.first_stage_model), "decode", decode)
    tokens = scene.encoder.empty_tokens()
    side = scene.image.shape[1] // 16
    latent = {"samples": torch.zeros(1, 32, side, side)}
    with pytest.raises(torch.OutOfMemoryError) as caught:
        host_nodes.common_ksampler(
            model, 0, 2, 1.0, "euler", "ddim_uniform", [[tokens, {}]], [[tokens, {}]], latent
        )  # fmt: skip
    assert caught.value is full


@pytest.mark.parametrize("node", ["FacePrivacy_LoadFaceRecognizers", MASK])
def test_missing_model_file_names_the_command_that_fetches_it(
    pack_nodes: dict[str, Any],
    errors: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    node: str,
) -> None:
    import folder_paths
    import torch

    monkeypatch.setenv("FACEPRIVACY_MODELS", str(tmp_path))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "faceprivacy", ([str(tmp_path)], set()))
    given = graphs.widget_defaults(pack_nodes[node])
    if node == MASK:
        given["image"] = torch.from_numpy(graphs.gradient())[None].float() / 255.0
    with pytest.raises(errors.ModelFileError, match="faceprivacy models get"):
        pack_nodes[node].execute(**given)


def test_grayscale_tensor_of_another_pack_is_refused_by_name(pack_nodes: dict[str, Any], errors: ModuleType) -> None:
    import torch

    for channels, name in ((1, "grayscale"), (4, "alpha channel"), (6, "6 channels")):
        with pytest.raises(errors.InputError, match=rf"3 channels, got .*{name}"):
            pack_nodes[MASK].execute(image=torch.zeros(1, 64, 64, channels), **graphs.widget_defaults(pack_nodes[MASK]))


def test_picture_with_infinite_values_is_refused(pack_nodes: dict[str, Any], errors: ModuleType) -> None:
    import torch

    image = torch.full((1, 64, 64, 3), float("nan"))
    with pytest.raises(errors.InputError, match="NaN or infinity"):
        pack_nodes[MASK].execute(image=image, **graphs.widget_defaults(pack_nodes[MASK]))
