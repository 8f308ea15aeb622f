"""The node Privacy Report: beside another photo of the person, and in another language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devtools.paths import ROOT, SAMPLE_PHOTO
from tests.support import graphs
from tests.support.host_scenes import Core
from tests.support.recognizer import ProjectionRecognizer

SETTINGS = ROOT / "web" / "settings.js"
LANGUAGE = "FacePrivacy.ReportLanguage"

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


def test_the_picture_is_in_the_language_of_the_settings_and_the_node_runs_again_for_another(
    pack_nodes: dict[str, Any], core: Core, portrait: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    settings = tmp_path / "default" / "comfy.settings.json"
    settings.parent.mkdir()
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    faces = core("faceprivacy_core.types").Faces((), 1, *portrait.shape[1:3])
    report, one_node = (pack_nodes[f"FacePrivacy_{name}"] for name in ("PrivacyReport", "AnonymizeFaces"))
    texts, pictures, fingerprints = [], [], []
    for chosen in (None, "en", "ja", "klingon", 3):
        settings.write_text(json.dumps({LANGUAGE: chosen} if chosen else {}), encoding="utf-8")
        told = report.execute(portrait, portrait, faces, (ProjectionRecognizer("a", 0),))
        texts.append(json.loads(told.args[0]) | {"seconds": 0})
        pictures.append(told.args[1])
        fingerprints.append((report.fingerprint_inputs(), one_node.fingerprint_inputs(image=None)))
    assert texts.count(texts[0]) == len(texts)  # for programs, in any language
    plain, english, japanese, *unknown = pictures
    assert not np.array_equal(plain, japanese)
    assert all(np.array_equal(plain, one) for one in (english, *unknown))
    assert fingerprints == [("en", "en"), ("en", "en"), ("ja", "ja"), ("en", "en"), ("en", "en")]


def test_every_node_that_writes_a_report_runs_again_in_another_language(pack_nodes: dict[str, Any]) -> None:
    writing = {
        name for name, node in pack_nodes.items() if {"report_image"} & {entry.id for entry in node.define_schema().outputs}
    }
    again = {name for name, node in pack_nodes.items() if any(base.__name__ == "WritesReports" for base in node.__mro__)}
    assert again == writing | {"FacePrivacy_PrivacyReport"}


def test_the_languages_of_the_settings_are_those_there_are(core: Core) -> None:
    offered = re.findall(r'value: "(\w+)"', SETTINGS.read_text(encoding="utf-8"))
    assert offered == list(core("faceprivacy_core.phrases.catalogue").LANGUAGES)
    assert LANGUAGE in SETTINGS.read_text(encoding="utf-8")


def test_new_inputs_are_the_last(pack_nodes: dict[str, Any]) -> None:
    names = [socket.id for socket in pack_nodes["FacePrivacy_PrivacyReport"].define_schema().inputs]
    assert names == ["original", "protected", "faces", "held_out", "mask", "seen", "other", "wish"]
