"""The node Privacy Report beside another photo of the person."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs
from tests.support.host_scenes import Core
from tests.support.recognizer import ProjectionRecognizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]


@pytest.fixture(scope="module")
def portrait(host_nodes: Any) -> Any:
    import torch

    return torch.from_numpy(graphs.sample(SAMPLE_PHOTO.parent / "portrait.jpg"))[None].float() / 255.0


@pytest.fixture
def execute(pack_nodes: dict[str, Any], core: Core, portrait: Any) -> Callable[..., list[dict[str, Any]]]:
    detect, select = core("faceprivacy_core.faces.detect"), core("faceprivacy_core.faces.select")
    pixels = (portrait[0] * 255).round().byte().numpy()
    faces = select.detect_faces([pixels], detect.load_detector(), select.Selection())

    def run(**options: Any) -> list[dict[str, Any]]:
        found = pack_nodes["FacePrivacy_PrivacyReport"].execute(
            portrait, portrait, faces, (ProjectionRecognizer("a", 0),), **options
        )
        return json.loads(found.args[0])["faces"]

    return run


def test_the_other_photo_stands_in_the_report_and_only_then(execute: Callable[..., Any], portrait: Any) -> None:
    (without,), (beside,) = execute(), execute(other=portrait)
    assert "other" not in without["recognizers"][0]
    assert beside["recognizers"][0]["other"]["similarity_after"] == pytest.approx(1.0, abs=1e-4)


def test_as_many_other_photos_as_pictures_or_one(execute: Callable[..., Any], portrait: Any) -> None:
    with pytest.raises(Exception, match="one other photo, or one for each of 1 pictures, got 2"):
        execute(other=portrait.repeat(2, 1, 1, 1))


def test_new_inputs_are_the_last(pack_nodes: dict[str, Any]) -> None:
    names = [socket.id for socket in pack_nodes["FacePrivacy_PrivacyReport"].define_schema().inputs]
    assert names == ["original", "protected", "faces", "held_out", "mask", "seen", "other", "wish"]
