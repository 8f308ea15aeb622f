"""The table of model files and the search for them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from faceprivacy_core import weights
from faceprivacy_core.errors import ModelFileError
from faceprivacy_core.model_folders import MODELS_DIR_VARIABLE

CONTENT = b"not really a network"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> weights.WeightsFile:
    """A table of one small file."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = replace(weights.FILES[0], key="toy", file_name="toy.onnx", sha256=digest, size=len(CONTENT))
    monkeypatch.setattr(weights, "FILES", (file,))
    return file


def test_keys_and_file_names_are_unique_and_hashes_are_whole():
    assert len(weights.FILES) == 7
    assert len({file.key for file in weights.FILES}) == len(weights.FILES)
    assert len({file.file_name for file in weights.FILES}) == len(weights.FILES)
    for file in weights.FILES:
        for digest in (file.sha256, file.source.sha256, file.source.archive_sha256):
            assert len(digest) == 64
            assert set(digest) <= set("0123456789abcdef")
        assert (file.conversion is None) == (file.sha256 == file.source.sha256)


def test_find_prefers_the_given_folders_in_order(toy: weights.WeightsFile, tmp_path: Path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / toy.file_name).write_bytes(CONTENT)
    assert weights.find("toy", [tmp_path / "first", tmp_path / "second"]).parent.name == "first"


def test_find_ends_with_the_folder_of_the_environment(
    toy: weights.WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path))
    (tmp_path / toy.file_name).write_bytes(CONTENT)
    assert weights.find("toy", [tmp_path / "empty"]) == tmp_path / toy.file_name


def test_a_missing_file_is_named_with_folders_and_command(
    toy: weights.WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path / "default"))
    with pytest.raises(ModelFileError, match="faceprivacy models get toy") as caught:
        weights.find("toy", [tmp_path / "extra"])
    for part in ("toy.onnx", str(tmp_path / "extra"), str(tmp_path / "default")):
        assert part in str(caught.value)


def test_other_bytes_under_the_name_are_refused_also_after_a_change(
    toy: weights.WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path))
    path = tmp_path / toy.file_name
    path.write_bytes(CONTENT)
    assert weights.find("toy") == path
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(ModelFileError, match="damaged or another one"):
        weights.find("toy")


def test_a_spoiled_file_does_not_hide_a_good_one(toy: weights.WeightsFile, tmp_path: Path):
    for name, content in (("spoiled", b"x"), ("good", CONTENT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / toy.file_name).write_bytes(content)
    assert weights.find("toy", [tmp_path / "spoiled", tmp_path / "good"]).parent.name == "good"


def test_an_unknown_key_names_the_known_ones(toy: weights.WeightsFile):
    with pytest.raises(ModelFileError, match="toy"):
        weights.find("arcface")
