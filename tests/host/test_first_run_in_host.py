"""What a stranger meets on a fresh host: samples that are there, photos without a face, messages that say what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import SAMPLE_PHOTO, WORKFLOWS
from devtools.server import ComfyServer
from devtools.workflow import Prompt, load_workflow, to_prompt
from tests.support import graphs, host_runs, keys

MASK, CROP, PASTE = "FacePrivacy_FaceMask", "FacePrivacy_FaceCrop", "FacePrivacy_FacePaste"
REPORT = "FacePrivacy_PrivacyReport"


@pytest.fixture
def faceless(client: ComfyClient, tmp_path: Path) -> str:
    return graphs.upload(client, tmp_path, "no_face", graphs.gradient())


@pytest.fixture
def fresh_key_folder(server: ComfyServer) -> Path:
    return server.base / keys.FOLDER


def _template(name: str, object_info: dict[str, Any]) -> Prompt:
    return to_prompt(load_workflow(WORKFLOWS / f"{name}.json"), object_info)


def test_samples_are_in_the_input_folder_of_a_started_host(server: ComfyServer) -> None:
    for sample in SAMPLE_PHOTO.parent.glob("*.jpg"):
        assert (server.base / "input" / sample.name).read_bytes() == sample.read_bytes()


def test_samples_never_replace_a_file_and_a_folder_that_takes_none_stops_nothing(core: Any, tmp_path: Path) -> None:
    provide = core("nodes._samples").provide_samples
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / SAMPLE_PHOTO.name).write_bytes(b"mine")
    provide(tmp_path / "input")
    assert (tmp_path / "input" / SAMPLE_PHOTO.name).read_bytes() == b"mine"
    assert (tmp_path / "input" / "portrait.jpg").is_file()
    (tmp_path / "file").write_bytes(b"")
    provide(tmp_path / "file")


@pytest.mark.parametrize("policy", ["pass", "blur"])
def test_anonymize_template_reports_that_there_was_no_face(
    client: ComfyClient, object_info: dict[str, Any], faceless: str, policy: str
) -> None:
    prompt = _template("Block by Block - Anonymize Faces", object_info)
    graphs.inputs(prompt, "LoadImage").update(image=faceless)
    graphs.inputs(prompt, MASK).update(on_no_face=policy)
    done = graphs.run(client, prompt)
    assert done.pictures[0].shape == graphs.gradient().shape
    report = json.loads(done.outcome.outputs[graphs.node_id(prompt, REPORT)]["text"][0])
    assert report["faces"] == []
    assert report["quality"]["inside"]["psnr_db"] is None


def test_face_crop_wired_into_face_paste_says_that_there_is_no_face(
    client: ComfyClient, object_info: dict[str, Any], faceless: str
) -> None:
    prompt = graphs.keep_only(graphs.anonymize_prompt(object_info, faceless), "LoadImage", MASK, CROP, PASTE, graphs.SAVE_CLEAN)
    graphs.inputs(prompt, MASK).update(on_no_face="pass")
    graphs.inputs(prompt, CROP).update(size=128)
    graphs.inputs(prompt, PASTE).update(changed=[graphs.node_id(prompt, CROP), 0])
    for left_out in ("face_encoder", "start"):
        del graphs.inputs(prompt, PASTE)[left_out]
    with pytest.raises(ExecutionError, match="no face was found or chosen"):
        graphs.run(client, prompt)


def test_decrypt_on_a_fresh_host_names_the_folder_and_what_to_run_first(
    client: ComfyClient, object_info: dict[str, Any]
) -> None:
    prompt = _template("Decrypt Faces", object_info)
    graphs.inputs(prompt, "FacePrivacy_LoadKeyedImage").update(image="encrypted_00099_.png [output]")
    with pytest.raises(ExecutionError, match=r"output folder, found no 'encrypted_00099_\.png' there\. Run .*Encrypt Faces"):
        client.queue(prompt)


def test_a_key_is_made_once_where_the_graph_asks_for_it(
    pack_nodes: dict[str, Any], core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / "keys"))
    node, errors = pack_nodes["FacePrivacy_PrivacyKey"], core("faceprivacy_core.errors")
    with pytest.raises(errors.KeyNotFoundError, match="in a graph with 'create'"):
        node.execute(name="mine")
    assert not (tmp_path / "keys").exists()
    first, second = (node.execute(name="mine", create=True).args[0] for _ in range(2))
    assert first.public_id == second.public_id
    path = tmp_path / "keys" / "mine.key"
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("damaged")
    with pytest.raises(errors.KeyNotFoundError, match="none or damaged"):
        node.execute(name="mine", create=True)


def test_a_whole_picture_given_to_the_crop_models_vae_is_refused_with_what_to_do(
    client: ComfyClient, object_info: dict[str, Any], server: ComfyServer
) -> None:
    prompt = graphs.anonymize_prompt(object_info, SAMPLE_PHOTO.name, steps=1)
    graphs.inputs(prompt, "VAEEncode").update(pixels=[graphs.node_id(prompt, "LoadImage"), 0])
    failure = host_runs.failure(client, server.base, prompt)
    assert (failure.node, failure.kind) == ("VAEEncode", "InputError")
    assert "Expected crops of 256 x 256" in failure.message
    assert "got 1024 x 640" in failure.message
    assert "Cut them with Face Crop at the size that the model's loader gives" in failure.message


def test_latents_of_another_size_given_to_the_crop_model_are_warned_of(
    client: ComfyClient, object_info: dict[str, Any], server: ComfyServer
) -> None:
    def warnings() -> int:
        return server.log_path.read_text(errors="replace").count("aligned face crops of")

    prompt = graphs.anonymize_prompt(object_info, SAMPLE_PHOTO.name, steps=1)
    before = warnings()
    graphs.run(client, prompt)
    assert warnings() == before
    # A picture of 512 px in the host's words: it makes 32 x 32 latents of it, and the VAE would refuse those.
    graphs.keep_only(prompt, "FacePrivacy_LoadBuiltinFaceModel", "KSampler")
    loaded = graphs.node_id(prompt, "FacePrivacy_LoadBuiltinFaceModel")
    latent = graphs.add(prompt, "EmptyLatentImage", width=512, height=512, batch_size=1)
    graphs.inputs(prompt, "KSampler").update(
        model=[loaded, 0], positive=[loaded, 4], negative=[loaded, 4], latent_image=[latent, 0], denoise=1.0
    )
    graphs.add(prompt, "SaveLatent", samples=[graphs.node_id(prompt, "KSampler"), 0], filename_prefix="wide")
    graphs.run(client, prompt)
    log = server.log_path.read_text(errors="replace")
    assert warnings() == before + 1
    assert "face crops of 256 x 256 pixels (latents 16 x 16); these latents are 32 x 32" in log


def test_the_warning_leaves_the_model_plain(pack_nodes: dict[str, Any], core: Any) -> None:
    """What depends on a model without changes (mode image, saved inversions) must not refuse this one."""
    model = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args[0]
    assert core("nodes._host_fingerprints").unrepeatable_parts(model) == []
