"""What the nodes of a workflow give away, in both forms of workflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.audit import api_form, as_json, frontend_form, kinds, png, run, written

IN_A_PICTURE = {"input-name": "original-name"}
WORKFLOWS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "nothing": ("CLIPTextEncode", {"text": "a portrait of hunter2's token"}, set()),
    "key": ("Encrypt", {"key": "hunter2"}, {"secret-field"}),
    "password": ("Encrypt", {"password": "hunter2"}, {"secret-field"}),
    "passphrase": ("Encrypt", {"Passphrase_1": "hunter2"}, {"secret-field"}),
    "secret": ("Encrypt", {"clientSecret": "hunter2"}, {"secret-field"}),
    "token": ("Upload", {"hf_token": "hunter2"}, {"secret-field"}),
    "api key": ("Upload", {"apiKey": "hunter2"}, {"secret-field"}),
    "empty password": ("Encrypt", {"password": " "}, set()),
    "names that only look alike": (
        "CLIPTextEncode", {"token_normalization": "none", "key_name": "anna", "keyframes": "0", "monkey": "x"}, set()),
    "unknown key in any widget": ("CLIPTextEncode", {"text": f"my {'c0ffee00' * 8}."}, {"hex-key"}),
    "longer digits": ("CLIPTextEncode", {"text": "c0ffee00" * 9}, set()),
    "name of a key": ("FacePrivacy_PrivacyKey", {"name": "anna"}, {"key-name"}),
    "key instead of its name": ("FacePrivacy_PrivacyKey", {"name": "c0ffee00" * 8}, {"hex-key"}),
    "passphrase instead of a name": ("FacePrivacy_PrivacyKey", {"name": "my hunter2"}, {"not-a-name"}),
    "input picture": ("LoadImage", {"image": "anna.jpg"}, {"input-name"}),
    "input picture of a folder": ("LoadImage", {"image": "party/anna.PNG [input]"}, {"input-name"}),
    "input picture without suffix": ("LoadImageMask", {"image": "anna"}, {"input-name"}),
    "input video": ("VHS_LoadVideo", {"video": "anna.mp4"}, {"input-name"}),
    "model": ("CheckpointLoaderSimple", {"ckpt_name": "sd15.safetensors"}, set()),
    "home folder": ("LoadVideo", {"folder": "C:\\Users\\Anna\\party"}, {"path"}),
}  # fmt: skip


@pytest.mark.parametrize("form", [api_form, frontend_form])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_widgets_are_judged_in_both_forms(form: Any, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class_type, widgets, expected = WORKFLOWS[name]
    document = form(class_type, **widgets)
    assert kinds(capsys, written(tmp_path, as_json(document), "json")) == expected | {"workflow"}
    in_png = kinds(capsys, written(tmp_path, png(("workflow", json.dumps(document)), compressed=True), "png"))
    assert in_png == {IN_A_PICTURE.get(kind, kind) for kind in expected} | {"workflow"}


@pytest.mark.parametrize("form", [api_form, frontend_form])
def test_a_widget_is_reported_once_with_its_node(form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, as_json(form("Encrypt", password="hunter2")), "json")
    said = run(capsys, path)[1].splitlines()
    assert len(said) == 3
    assert sum("(workflow file, node 3 Encrypt, password)" in line for line in said) == 1


def test_widgets_without_names_are_judged_by_their_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    named = frontend_form("TextPassword", named=False, text="hunter2")
    assert kinds(capsys, written(tmp_path, as_json(named), "json")) == {"workflow", "secret-field"}
    key_node = frontend_form("FacePrivacy_PrivacyKey", named=False, name="anna")
    assert kinds(capsys, written(tmp_path, as_json(key_node), "json")) == {"workflow", "key-name"}
    unsure = frontend_form("Encrypt", password="hunter2")
    unsure["nodes"][1]["widgets_values"].insert(0, "aes")
    assert kinds(capsys, written(tmp_path, as_json(unsure), "json")) == {"workflow", "secret-field"}
    seeded = frontend_form("Encrypt", seed=7, mode="aes", password="")
    seeded["nodes"][1]["widgets_values"].insert(1, "randomize")
    assert kinds(capsys, written(tmp_path, as_json(seeded), "json")) == {"workflow"}
    by_name = frontend_form("Encrypt")
    by_name["nodes"][1]["widgets_values"] = {"password": "hunter2"}
    assert kinds(capsys, written(tmp_path, as_json(by_name), "json")) == {"workflow", "secret-field"}


def test_a_text_node_that_feeds_a_password_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    api = api_form("Encrypt", password=["5", 0]) | {"5": {"class_type": "PrimitiveString", "inputs": {"value": "hunter2"}}}
    assert kinds(capsys, written(tmp_path, as_json(api), "json")) == {"workflow", "secret-field"}
    api["3"]["inputs"] = {"remark": ["5", 0]}
    assert kinds(capsys, written(tmp_path, as_json(api), "json")) == {"workflow"}
    api["3"]["inputs"] = {"key": ["5", 0]}
    api["5"] = {"class_type": "KeyLoader", "inputs": {"label": "mine"}}
    assert kinds(capsys, written(tmp_path, as_json(api), "json")) == {"workflow"}
    for link in ([8, 5, 0, 3, 0, "STRING"], {"id": 8, "origin_id": 5, "target_id": 3}):
        frontend = frontend_form("Encrypt", password="")
        frontend["nodes"].append({"id": 5, "type": "PrimitiveNode", "inputs": [], "widgets_values": ["hunter2"]})
        frontend["nodes"][1]["inputs"][0]["link"] = 8
        nested = {"nodes": [], "links": [], "definitions": {"subgraphs": [frontend | {"links": [link]}]}}
        assert kinds(capsys, written(tmp_path, as_json(nested), "json")) == {"workflow", "secret-field"}


def test_fields_around_the_nodes_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    history = {"prompt": [0, "id", api_form("SaveImage", images=["1", 0]), {"api_key_comfy_org": "hunter2"}]}
    assert kinds(capsys, written(tmp_path, as_json(history), "json")) == {"workflow", "secret-field"}
    history["prompt"][3] = {"api_key_comfy_org": "", "shortcut": {"key": "s"}}
    assert kinds(capsys, written(tmp_path, as_json(history), "json")) == {"workflow"}


@pytest.mark.parametrize("form", [api_form, frontend_form])
def test_the_name_of_an_input_is_said_and_no_reason_to_fail(form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, said = run(capsys, written(tmp_path, as_json(form("LoadImage", image="anna.jpg")), "json"))
    assert status == 0, "every workflow has an input"
    (line,) = [line for line in said.splitlines() if "the file name of an input" in line]
    assert line.startswith("note ")
    assert "(workflow file, node 3 LoadImage, image)" in line


@pytest.mark.parametrize("form", [api_form, frontend_form])
def test_the_name_of_the_original_in_a_picture_is_a_finding_and_is_not_shown(
    form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    chunks = PngInfo()
    chunks.add_text("prompt", json.dumps(form("LoadImage", image="anna.jpg")))
    Image.new("RGB", (32, 32)).save(tmp_path / "protected.png", pnginfo=chunks)
    status, said = run(capsys, tmp_path / "protected.png")
    assert status == 1
    assert "the file name of the picture that it was made from" in said
    assert "anna" not in said
