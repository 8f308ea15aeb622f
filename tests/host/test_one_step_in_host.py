"""The one nodes that cloak faces and that hide looks, on the real host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import SAMPLE_PHOTO
from devtools.workflow import Prompt
from tests.support import graphs

CLOAK, HIDE = "FacePrivacy_CloakFaces", "FacePrivacy_ChangeLooks"
QUICK = {
    CLOAK: {"iterations": 2, "accept_unprotected": True, "which": "by number", "numbers": "1"},
    HIDE: {"steps": 4, "refine": 2, "which": "by number", "numbers": "1"},
}


def _prompt(object_info: dict[str, Any], kind: str, image: str, **settings: Any) -> Prompt:
    required, optional = (object_info[kind]["input"].get(part, {}) for part in ("required", "optional"))
    values = {name: _default(given) for name, given in (required | optional).items() if given[0] != "IMAGE"}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": kind, "inputs": values | QUICK[kind] | settings | {"image": ["1", 0]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 3]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "one_step"}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["2", 4]}},
    }


def _default(given: list[Any]) -> Any:
    options = given[1] if len(given) > 1 else {}
    choices = given[0] if isinstance(given[0], list) else options.get("options", [None])
    return options.get("default", choices[0])


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return graphs.sample(SAMPLE_PHOTO)


@pytest.fixture(scope="module")
def name(client: ComfyClient, tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> str:
    return graphs.upload(client, tmp_path_factory.mktemp("pictures"), "one_step", photo)


@pytest.mark.parametrize("kind", [CLOAK, HIDE])
def test_the_chosen_face_is_changed_and_measured(
    client: ComfyClient, object_info: dict[str, Any], photo: np.ndarray, name: str, kind: str
) -> None:
    outcome = client.run(_prompt(object_info, kind, name), timeout_s=graphs.RUN_LIMIT_S)
    report = json.loads(outcome.outputs["3"]["text"][0])
    assert len(report["faces"]) == 1
    assert report["summary"]
    assert {entry["role"] for entry in report["faces"][0]["recognizers"]} == {"seen", "held out"}
    (image,) = outcome.outputs["4"]["images"]
    result = graphs.fetch(client, image)
    assert (result != photo).any()
    half = photo.shape[1] // 2
    np.testing.assert_array_equal(result[:, :half], photo[:, :half])
    assert len(outcome.outputs["5"]["images"]) == 1


@pytest.mark.parametrize("kind", [CLOAK, HIDE])
def test_no_face_stops_or_passes(client: ComfyClient, object_info: dict[str, Any], tmp_path: Path, kind: str) -> None:
    plain = np.full((96, 128, 3), 120, np.uint8)
    image = graphs.upload(client, tmp_path, f"no_face_{kind}", plain)
    choice = {"which": "all", "numbers": ""}
    with pytest.raises(ExecutionError, match="Expected a face in every picture"):
        client.run(_prompt(object_info, kind, image, **choice))
    outcome = client.run(_prompt(object_info, kind, image, **choice, on_no_face="pass"))
    (saved,) = outcome.outputs["4"]["images"]
    np.testing.assert_array_equal(graphs.fetch(client, saved), plain)
