"""Save Inversion and Load Inversion inside the host: stock sampling draws the faces again, and only the key opens the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from devtools.client import ComfyClient
from devtools.paths import WORKFLOWS
from devtools.server import ComfyServer
from devtools.workflow import Prompt, load_workflow, to_prompt
from tests.support import graphs, host_runs
from tests.support.host_models import taesd, tiny_clip, tiny_sd1_told, tiny_unet, with_lora
from tests.support.host_scenes import PORTRAIT, Core, Scene
from tests.support.keys import PASSPHRASE, PASSPHRASE_NAME, ensure_key

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]

SAVE, LOAD = "FacePrivacy_SaveInversion", "FacePrivacy_LoadInversion"
WIDGETS = {"region": "face with neck and ears", "grow": 0.0, "feather": 6.0}
STEPS = 4


@pytest.fixture(scope="module")
def scene(scene: Scene, core: Core) -> Scene:
    """A real face, the built-in model in the host, and the core's inversion of the face."""
    import torch

    with torch.inference_mode(False):
        network = core("faceprivacy_core.builtin.model").load_face_model()
        pixels = scene.photo.permute(0, 3, 1, 2).clone()
        inversion = core("faceprivacy_core.recover").invert_faces(pixels, scene.faces, network, steps=STEPS, iterations=2)
    return replace(scene, inversion=inversion)


@pytest.fixture(scope="module")
def key(core: Core) -> Any:
    return core("faceprivacy_core.keyed.keys").PrivacyKey.from_bytes(bytes(range(32)), "mine", decrypts_in_server=True)


@pytest.fixture
def output() -> Path:
    import folder_paths

    return Path(folder_paths.get_output_directory())


def _save(pack_nodes: dict[str, Any], scene: Scene, prefix: str, **options: Any) -> tuple[str, str]:
    """Save the scene's inversion; return the file's name for Load Inversion and what the node says."""
    inversion = options.pop("inversion", scene.inversion)
    said = pack_nodes[SAVE].execute(inversion, prefix, **({"unprotected": False} | options)).ui.as_dict()["text"][0]
    return said.partition(": ")[0] + " [output]", said


def _load(pack_nodes: dict[str, Any], scene: Scene, name: str, **options: Any) -> tuple[Any, ...]:
    return pack_nodes[LOAD].execute(name, **WIDGETS, **({"model": scene.model, "vae": scene.vae} | options)).args


def test_identity_in_the_host_is_that_of_the_core(core: Core, scene: Scene) -> None:
    identity = core("nodes._host_fingerprints").model_identity(scene.model, scene.vae)
    assert (identity.unet, identity.vae, identity.text_encoder) == (
        scene.inversion.model.unet, scene.inversion.model.vae, ""
    )  # fmt: skip


def test_stock_sampling_of_a_loaded_file_draws_the_face_again(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], scene: Scene, key: Any
) -> None:
    import torch
    from comfy_extras.nodes_custom_sampler import KSamplerSelect, SamplerCustom

    name, said = _save(pack_nodes, scene, "inversions/face", key=key)
    assert "inversions/face_00001_.fpinv: sealed with PrivacyKey(name='mine', id=" in said
    inversion, noise, sigmas, crops, mask = _load(pack_nodes, scene, name, key=key)
    assert torch.equal(inversion.stages, scene.inversion.stages)
    assert tuple(sigmas.tolist()) == scene.inversion.noise.sigmas
    positive, negative = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("recover", 0, inversion).args
    (sampler,) = KSamplerSelect.execute("euler").args
    sampled = SamplerCustom.execute(scene.model, False, 0, 1.0, positive, negative, sampler, sigmas, noise).args[0]
    drawn = scene.vae.decode(sampled["samples"])
    bound = scene.vae.decode(scene.vae.encode(scene.image))
    assert _psnr(drawn, scene.image) > _psnr(bound, scene.image) - 1.5
    pasted = pack_nodes["FacePrivacy_FacePaste"].execute(1.0 - scene.photo, mask, crops, drawn).args[0]
    outside = mask == 0
    assert torch.equal(pasted[outside], (1.0 - scene.photo)[outside])
    assert _psnr(pasted[mask == 1], scene.photo[mask == 1]) > 20.0


def _psnr(one: Tensor, other: Tensor) -> float:
    return float(-10.0 * (one - other).square().mean().log10())


def test_without_a_key_the_choice_must_be_made(
    core: Core, pack_nodes: dict[str, Any], scene: Scene, key: Any, output: Path
) -> None:
    errors = core("faceprivacy_core.errors")
    before = host_runs.written(output.parent)
    for options, came in (({}, "neither"), ({"key": key, "unprotected": True}, "both")):
        with pytest.raises(errors.InputError, match=f"got {came}"):
            _save(pack_nodes, scene, "inversions/none", **options)
    assert host_runs.written(output.parent) == before
    name, said = _save(pack_nodes, scene, "inversions/open", unprotected=True)
    assert "whoever has this file has the faces" in said
    assert _load(pack_nodes, scene, name)[0].num_faces == 1


def test_what_cannot_bring_a_face_back_is_not_saved(core: Core, pack_nodes: dict[str, Any], scene: Scene, key: Any) -> None:
    for part in ("noise", "crops"):
        with pytest.raises(core("faceprivacy_core.errors").InputError, match="Invert again with 'noise_map'"):
            _save(pack_nodes, scene, "inversions/part", key=key, inversion=replace(scene.inversion, **{part: None}))


def test_other_keys_and_changed_files_are_refused(
    core: Core, pack_nodes: dict[str, Any], scene: Scene, key: Any, output: Path
) -> None:
    errors, keys = core("faceprivacy_core.errors"), core("faceprivacy_core.keyed.keys")
    name, _ = _save(pack_nodes, scene, "inversions/sealed", key=key)
    path = output / name.removesuffix(" [output]")
    for wrong in (None, keys.PrivacyKey.from_bytes(bytes(32), decrypts_in_server=True)):
        with pytest.raises(errors.InversionKeyError):
            _load(pack_nodes, scene, name, key=wrong)
    with pytest.raises(errors.KeyUseError):
        _load(pack_nodes, scene, name, key=keys.PrivacyKey.from_bytes(bytes(range(32))))
    good = path.read_bytes()
    for changed, error in (
        (good[:-1] + bytes([good[-1] ^ 1]), errors.InversionTamperedError),
        (good[:40], errors.InversionFormatError),
        (b"\x80\x04" + good, errors.InversionFormatError),
    ):
        path.write_bytes(changed)
        with pytest.raises(error):
            _load(pack_nodes, scene, name, key=key)
    path.unlink()
    assert "found no" in pack_nodes[LOAD].validate_inputs(name)
    assert pack_nodes[LOAD].validate_inputs() is True


def test_another_model_vae_or_a_lora_is_named(core: Core, pack_nodes: dict[str, Any], scene: Scene, key: Any) -> None:
    error = core("faceprivacy_core.errors").InversionModelError
    name, _ = _save(pack_nodes, scene, "inversions/model", key=key)
    patched = with_lora(scene.model, 0.5)
    guided = scene.model.clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    for model in (patched, guided, tiny_unet()):
        with pytest.raises(error, match="denoiser"):
            _load(pack_nodes, scene, name, key=key, model=model)
    with pytest.raises(error, match=r"denoiser|autoencoder"):
        _load(pack_nodes, scene, name, key=key, vae=taesd())


def test_a_model_that_cannot_be_repeated_has_no_fingerprint_and_is_not_saved(
    core: Core, pack_nodes: dict[str, Any], scene: Scene, key: Any
) -> None:
    guided = scene.model.clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    identity = core("nodes._host_fingerprints").model_identity(guided, scene.vae)
    assert identity.unet == ""
    with pytest.raises(core("faceprivacy_core.errors").InputError, match="fingerprints of model and VAE"):
        _save(pack_nodes, scene, "inversions/guided", key=key, inversion=replace(scene.inversion, model=identity))


def test_menu_lists_input_and_output(pack_nodes: dict[str, Any], scene: Scene, key: Any) -> None:
    import folder_paths

    name, _ = _save(pack_nodes, scene, "inversions/listed", key=key)
    uploaded = Path(folder_paths.get_input_directory()) / "uploaded.fpinv"
    uploaded.write_bytes(b"whatever")
    (menu,) = [entry for entry in pack_nodes[LOAD].define_schema().inputs if entry.id == "file"]
    assert {name, "uploaded.fpinv"} <= set(menu.options)
    uploaded.unlink()


# The running host


@pytest.fixture(scope="module")
def sealed_name(core: Core, server: ComfyServer, scene: Scene) -> str:
    """A file in the host's input folder, sealed with the planted passphrase."""
    planted = core("faceprivacy_core.keyed.keys").PrivacyKey.from_passphrase(PASSPHRASE)
    path = server.base / "input" / "planted.fpinv"
    core("faceprivacy_core.inversions.files").write_inversion_file(path, scene.inversion, planted)
    return path.name


@pytest.fixture(scope="module")
def picture_name(client: ComfyClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    pixels = graphs.sample(PORTRAIT)
    return graphs.upload(client, tmp_path_factory.mktemp("recover"), "recover_portrait", 255 - pixels)


def _recover_prompt(object_info: dict[str, Any], file: str, picture: str, key: str) -> Prompt:
    """Return the shipped workflow, which also saves the loaded inversion again."""
    prompt = to_prompt(load_workflow(WORKFLOWS / "Block by Block - Recover Faces.json"), object_info)
    graphs.inputs(prompt, "LoadImage").update(image=picture)
    graphs.inputs(prompt, LOAD).update(file=file)
    graphs.inputs(prompt, "FacePrivacy_PrivacyKey").update(name=key)
    loaded, handle = graphs.node_id(prompt, LOAD), graphs.node_id(prompt, "FacePrivacy_PrivacyKey")
    graphs.add(prompt, SAVE, inversion=[loaded, 0], filename_prefix="again/inv", unprotected=False, key=[handle, 0])
    return prompt


def test_workflow_recovers_and_the_passphrase_occurs_nowhere(
    server: ComfyServer, client: ComfyClient, object_info: dict[str, Any], sealed_name: str, picture_name: str
) -> None:
    prompt = _recover_prompt(object_info, sealed_name, picture_name, PASSPHRASE_NAME)
    host_runs.run_as_browser(client, prompt, load_workflow(WORKFLOWS / "Block by Block - Recover Faces.json"))
    ensure_key(server.base, "other")
    wrong = host_runs.failure(client, server.base, _recover_prompt(object_info, sealed_name, picture_name, "other"))
    assert (wrong.node, wrong.kind) == (LOAD, "InversionKeyError")
    assert "PrivacyKey(name='other', id=" in wrong.shown
    again = server.base / "output" / "again" / "inv_00001_.fpinv"
    assert again.read_bytes().startswith(b"FPIV1\0")
    told = {
        "history": json.dumps(client.history()).encode(),
        "object_info": json.dumps(client.object_info()).encode(),
        "logs": host_runs.get(client, "/internal/logs"),
        "failure": f"{wrong.message} {wrong.shown}".encode(),
    }
    files = [path for folder in ("input", "output", "temp", "user") for path in (server.base / folder).rglob("*")]
    told |= {str(path): path.read_bytes() for path in files if path.is_file()}
    assert PASSPHRASE_NAME.encode() in told["history"]
    secret = PASSPHRASE.encode()
    needles = (secret, secret.hex().encode(), PASSPHRASE.encode("utf-16-le"), b"hunter2-SECRET")
    assert [place for place, content in told.items() if any(needle in content for needle in needles)] == []


def test_a_checkpoints_conditions_are_made_again_by_its_clip(
    core: Core, pack_nodes: dict[str, Any], scene: Scene, key: Any
) -> None:
    import torch

    model, vae, clip = tiny_sd1_told(32), taesd(), tiny_clip("sd1")
    inversions = core("faceprivacy_core.embeddings.inversion")
    space = core("nodes._host_text").TextTokens(model, clip, trainable=False)
    (start,) = space.start(2).values()
    with torch.inference_mode(False):
        offsets = start[None, None].clone() + 0.01 * torch.randn(3, 1, 2, start.shape[1])
        tokens = {"l": core("faceprivacy_core.inversions.stored").as_stored(inversions.StageTokens(offsets))}
    made = core("nodes._host_tokens").stage_conditions(space, tokens)
    identity = core("nodes._host_fingerprints").model_identity(model, vae, clip)
    assert identity.text_encoder
    side = scene.image.shape[1] // vae.spacial_compression_encode()
    noise = replace(scene.inversion.noise, latent=torch.randn(1, vae.latent_channels, side, side))
    given = replace(scene.inversion, stages=made.stages, empty=made.empty, model=identity, tokens=tokens, noise=noise)
    name, _ = _save(pack_nodes, scene, "inversions/clip", key=key, inversion=given)
    loaded = _load(pack_nodes, scene, name, key=key, model=model, vae=vae, clip=clip)[0]
    assert torch.equal(loaded.stages, made.stages)
    assert torch.equal(loaded.empty, made.empty)
    with pytest.raises(core("faceprivacy_core.errors").InversionModelError, match="text encoder"):
        _load(pack_nodes, scene, name, key=key, model=model, vae=vae)
