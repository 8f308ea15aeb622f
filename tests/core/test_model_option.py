"""`--model`: every command on a checkpoint of the user's, with the real detector and recognisers and a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.commands import main

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
QUICK = ["--steps", "2", "--noise", "1", "--strength", "0", "--learn-steps", "0", "--largest"]

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "one.png"
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        picture.resize((171, 256)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_a_face_is_drawn_saved_and_drawn_again_with_a_checkpoint(
    source: Path, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = ["--model", str(checkpoints["sdxl"])]
    saving = ["--save-inversion", "--inversion-steps", "2", "--unprotected"]
    assert main(["anonymize", str(source), "--out", str(tmp_path / "out"), *QUICK, *model, *saving]) == 0
    assert "tiny-sdxl: SDXL, crops of 64 pixels, 8 at a time" in capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "one.json").read_text(encoding="utf-8"))
    assert report["model"] == "tiny-sdxl (SDXL)"
    assert report["quality"]["outside"]["max_abs_difference"] == 0
    shown = tmp_path / "out" / "one.png"
    assert main(["recover", str(shown), "--out", str(tmp_path / "back"), *model]) == 0
    assert not np.array_equal(pixels(tmp_path / "back" / "one.png"), pixels(shown))
    assert main(["recover", str(shown), "--out", str(tmp_path / "other")]) == 1
    assert "denoiser" in capsys.readouterr().err
    assert not (tmp_path / "other" / "one.png").exists()


def test_cloaking_with_a_checkpoint_changes_only_the_face(source: Path, checkpoints: dict[str, Path], tmp_path: Path):
    arguments = ["--model", str(checkpoints["sd1"]), "--iterations", "1", "--accept-unprotected", "--at-once", "1"]
    assert main(["cloak", str(source), "--out", str(tmp_path), *arguments]) == 0
    report = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert report["quality"]["outside"]["max_abs_difference"] == 0
    assert not np.array_equal(pixels(tmp_path / "one.png"), pixels(source))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vae", "x.safetensors"], "--vae together with --model"),
        (["--crop-size", "512"], "--crop-size together with --model"),
        (["--dtype", "fp16"], "fp32 or bf16 for the built-in model"),
        (["--model", "gone.safetensors"], "found nothing at gone.safetensors"),
        (["--model", "{sd1}", "--look", "donor"], "--look person with --model"),
        (["--model", "{sd1}", "--at-once", "0"], "at least one crop at a time"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_written(
    source: Path, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
):  # fmt: skip
    words = [word.format(**{name: str(path) for name, path in checkpoints.items()}) for word in arguments]
    assert main(["anonymize", str(source), "--out", str(tmp_path / "out"), *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
