"""The one node from pictures to protected pictures, on the real host, and the saver beside it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.client import ComfyClient
from devtools.paths import SAMPLE_PHOTO, WORKFLOWS
from devtools.workflow import Prompt, load_workflow, to_prompt
from tests.support import graphs

ANONYMIZE = "FacePrivacy_AnonymizeFaces"


@pytest.fixture(scope="module")
def two_people() -> np.ndarray:
    return graphs.sample(SAMPLE_PHOTO)


@pytest.fixture(scope="module")
def two_name(client: ComfyClient, tmp_path_factory: pytest.TempPathFactory, two_people: np.ndarray) -> str:
    """The photo as PNG: decoders of JPEG differ by a level."""
    return graphs.upload(client, tmp_path_factory.mktemp("pictures"), "two_people_exact", two_people)


def _prompt(object_info: dict[str, Any], **settings: Any) -> Prompt:
    prompt = to_prompt(load_workflow(WORKFLOWS / "Anonymize Faces.json"), object_info)
    graphs.inputs(prompt, ANONYMIZE).update(settings)
    del prompt[graphs.node_id(prompt, "PreviewImage")]
    graphs.add(prompt, "PreviewAny", source=[graphs.node_id(prompt, ANONYMIZE), 3])
    return prompt


def _report(done: graphs.Run, prompt: Prompt) -> dict[str, Any]:
    return json.loads(done.outcome.outputs[graphs.node_id(prompt, "PreviewAny")]["text"][0])


def _result(done: graphs.Run, prompt: Prompt, client: ComfyClient) -> np.ndarray:
    (image,) = done.outcome.outputs[graphs.node_id(prompt, graphs.SAVE_CLEAN)]["images"]
    return graphs.fetch(client, image)


def test_new_faces_are_drawn_measured_and_saved_without_metadata(
    client: ComfyClient, object_info: dict[str, Any], two_people: np.ndarray
) -> None:
    prompt = _prompt(object_info, steps=4)
    done = graphs.run(client, prompt)
    report = _report(done, prompt)
    assert len(report["faces"]) == len(report["methods"]) == 2
    assert set(report["methods"]) <= {"new face", "blur"}
    assert report["quality"]["outside"]["max_abs_difference"] == 0
    result = _result(done, prompt, client)
    assert result.shape == two_people.shape
    assert (result != two_people).any(axis=2).mean() > 0.01
    (image,) = done.outcome.outputs[graphs.node_id(prompt, graphs.SAVE_CLEAN)]["images"]
    with Image.open(io.BytesIO(client.fetch(image))) as saved:
        assert set(saved.info) == {"srgb"}


def test_the_node_that_blurs_does_what_the_method_does(
    client: ComfyClient, object_info: dict[str, Any], two_name: str
) -> None:  # fmt: skip
    chosen = {"method": "blur", "which": "by number", "numbers": "1", "measure": False}
    pictures = []
    for kind in (ANONYMIZE, "FacePrivacy_BlurFaces"):
        prompt = _prompt(object_info, **chosen)
        node = prompt[graphs.node_id(prompt, ANONYMIZE)]
        known = {name for part in object_info[kind]["input"].values() for name in part}
        node.update(class_type=kind, inputs={name: value for name, value in node["inputs"].items() if name in known})
        graphs.inputs(prompt, "LoadImage").update(image=two_name)
        done = graphs.run(client, prompt)
        assert _report(done, prompt)["methods"] == ["blur"]
        pictures.append(_result(done, prompt, client))
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("method", ["blur", "mosaic", "solid"])
def test_hiding_touches_chosen_faces_only_and_nobody_is_recognised(
    client: ComfyClient, object_info: dict[str, Any], two_people: np.ndarray, two_name: str, method: str
) -> None:
    prompt = _prompt(object_info, method=method, which="by number", numbers="1", region="whole head")
    graphs.inputs(prompt, "LoadImage").update(image=two_name)
    done = graphs.run(client, prompt)
    report, result = _report(done, prompt), _result(done, prompt, client)
    assert report["methods"] == [method]
    (face,) = report["faces"]
    assert [entry["name"] for entry in face["recognizers"] if entry["verified_fmr_1e-3"]] == []
    half = two_people.shape[1] // 2
    np.testing.assert_array_equal(result[:, :half], two_people[:, :half])


@pytest.mark.parametrize(("policy", "is_same"), [("pass", True), ("blur", False)])
def test_a_photo_without_a_face_goes_through_as_the_policy_says(
    client: ComfyClient, object_info: dict[str, Any], tmp_path: Path, policy: str, is_same: bool
) -> None:
    checks = np.kron(np.indices((20, 24)).sum(axis=0) % 2, np.ones((10, 10))).astype(np.uint8) * 255
    board = np.stack([checks] * 3, axis=-1)
    prompt = _prompt(object_info, on_no_face=policy, method="blur")
    graphs.inputs(prompt, "LoadImage").update(image=graphs.upload(client, tmp_path, "board", board))
    done = graphs.run(client, prompt)
    assert _report(done, prompt)["faces"] == []
    assert np.array_equal(_result(done, prompt, client), board) == is_same


def test_without_measuring_the_report_lists_what_was_done(client: ComfyClient, object_info: dict[str, Any]) -> None:
    prompt = _prompt(object_info, method="solid", measure=False)
    assert _report(graphs.run(client, prompt), prompt) == {"methods": ["solid", "solid"]}


@pytest.mark.parametrize(("kind", "ending"), [("JPEG", ".jpg"), ("WebP", ".webp")])
def test_other_formats_are_saved_without_metadata(
    client: ComfyClient, object_info: dict[str, Any], kind: str, ending: str
) -> None:
    prompt: Prompt = {}
    loaded = graphs.add(prompt, "LoadImage", image=SAMPLE_PHOTO.name)
    graphs.add(
        prompt, graphs.SAVE_CLEAN, image=[loaded, 0], filename_prefix="clean", format=kind, quality=90, colour_profile=False
    )  # fmt: skip
    (outputs,) = client.run(prompt, timeout_s=graphs.RUN_LIMIT_S).outputs.values()
    (image,) = outputs["images"]
    assert image["filename"].endswith(ending)
    content = client.fetch(image)
    for secret in (b"exif", b"Exif", b"prompt", b"workflow", SAMPLE_PHOTO.stem.encode()):
        assert secret not in content
