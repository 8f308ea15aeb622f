"""`faceprivacy hide` on a real picture with the real models."""

import json
from pathlib import Path

import pytest
from PIL import Image

from faceprivacy_core.commands import main

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
QUICK = ["--steps", "4"]

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "one.png"
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        picture.resize((343, 512)).save(path)
    return path


def test_a_picture_is_written_with_its_report_and_comes_back_from_its_inversion(portrait: Path, tmp_path: Path):
    saving = ["--save-inversion", "--unprotected", "--inversion-steps", "4"]
    assert main(["hide", str(portrait), "--out", str(tmp_path / "hidden"), *QUICK, *saving]) == 0
    assert sorted(path.name for path in (tmp_path / "hidden").iterdir()) == ["one.fpinv", "one.json", "one.png"]
    report = json.loads((tmp_path / "hidden" / "one.json").read_text(encoding="utf-8"))
    assert [face["index"] for face in report["faces"]] == [0]
    assert report["quality"]["outside"]["max_abs_difference"] == 0
    with Image.open(tmp_path / "hidden" / "one.png") as picture:
        assert picture.size == (343, 512)
        assert not picture.info
    hidden = str(tmp_path / "hidden" / "one.png")
    assert main(["recover", hidden, "--out", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back" / "one.png").is_file()


def test_an_impossible_weight_is_refused_before_anything_is_written(
    portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["hide", str(portrait), "--out", str(tmp_path / "out"), *QUICK, "--look-different", "-1"]) == 1
    assert "look weight" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
