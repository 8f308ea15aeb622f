"""The benchmark of the built-in model, whole, on few pictures and few steps."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import builtin_model
from faceprivacy_core.builtin.model import DEFAULT_FILE

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"


def test_of_a_pool_that_is_still_drawn_only_what_is_there_is_read(tmp_path: Path):
    faces = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "faces.npy", faces)
    assert len(list(builtin_model.read_training_faces(tmp_path))) == 5
    (tmp_path / "faces.json").write_text('{"done": 3, "first_seed": 0}')
    assert np.array_equal(np.stack(list(builtin_model.read_training_faces(tmp_path))), faces[:3])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures with a face each."""
    folder = tmp_path_factory.mktemp("pictures")
    for sample in ("portrait.jpg", "two_people.jpg"):
        with Image.open(SAMPLES / sample) as opened:
            picture = opened.convert("RGB").resize((opened.width // 2, opened.height // 2))
        picture.save(folder / f"a_{sample}")
        ImageOps.mirror(picture).save(folder / f"b_{sample}")
    return folder


@pytest.mark.weights
def test_one_command_measures_model_yardsticks_and_groups(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    older = tmp_path / "older.safetensors"
    shutil.copy(DEFAULT_FILE, older)
    options = ["--pictures", pictures, "--training-faces", pictures, "--compare", older, "--model", DEFAULT_FILE]
    options += ["--faces", 2, "--told", 2, "--steps", 4, "--out", tmp_path]
    monkeypatch.setattr(builtin_model, "measure_cost", lambda *_: {"file, MB": 1.0})  # times are for a quiet machine
    monkeypatch.setattr(sys, "argv", ["builtin_model.py", *map(str, options)])
    builtin_model.main()
    results = json.loads((tmp_path / "builtin_model.json").read_text(encoding="utf-8"))
    generator = results.pop("generator")["unconditional"]
    model, compared = results.values()
    assert list(generator) == list(model["unconditional"])
    assert compared == {"unconditional": model["unconditional"]}, "The same file gives the same samples."
    assert {"round trip, groups of generated faces", "from an image's tokens", "inpainting", "cost"} < set(model)
    assert generator["face detected"] == 1.0
    nearest = [value for name, value in generator.items() if name.startswith("nearest training face")]
    assert set(nearest) == {0.0}, "These pictures are among the training faces."
    assert "| **unconditional** |" in capsys.readouterr().out
    assert (tmp_path / "builtin_model.png").is_file()
    with Image.open(tmp_path / "samples_1.png") as samples:
        assert samples.size[0] == builtin_model.SAMPLES_ACROSS * 256


def test_too_few_generated_faces_are_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = argparse.Namespace(pictures=tmp_path, faces=2, training_faces=None)
    with pytest.raises(SystemExit, match=r"Expected 4 generated faces .* got 0\. Draw more"):
        builtin_model.see_yardsticks(options, None, 256)
