"""`faceprivacy anonymize` on real pictures with the real models."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from faceprivacy_core.commands import main

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
QUICK = ["--steps", "4", "--noise", "0.6"]

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Run once over a folder with a good picture, one without a face, and a broken file."""
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(SAMPLES / "two_people.jpg") as picture:
        picture.resize((512, 320)).save(folder / "two.png")
    Image.new("RGB", (200, 200), (90, 120, 150)).save(folder / "empty.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    out = tmp_path_factory.mktemp("out")
    return main(["anonymize", str(folder), "--out", str(out), *QUICK]), out


def test_status_tells_that_some_pictures_failed_and_only_good_ones_are_written(outcome: tuple[int, Path]):
    status, out = outcome
    assert status == 1
    assert sorted(path.name for path in out.iterdir()) == ["two.json", "two.png"]


def test_the_result_has_the_inputs_size_and_no_metadata(outcome: tuple[int, Path]):
    with Image.open(outcome[1] / "two.png") as picture:
        assert picture.size == (512, 320)
        assert picture.mode == "RGB"
        assert not picture.info


def test_the_report_lists_every_face_and_recogniser(outcome: tuple[int, Path]):
    report = json.loads((outcome[1] / "two.json").read_text(encoding="utf-8"))
    assert report["picture"] == "two.png"
    assert [face["index"] for face in report["faces"]] == [0, 1]
    for face in report["faces"]:
        roles = [recognizer["role"] for recognizer in face["recognizers"]]
        assert roles == ["seen"] * 2 + ["held out"] * 3
    assert report["quality"]["outside"]["max_abs_difference"] == 0
    assert report["seconds"] > 0


def test_the_same_seed_writes_the_same_pixels(tmp_path: Path):
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        picture.resize((343, 512)).save(tmp_path / "one.png")
    pixels = []
    for run in ("a", "b"):
        assert main(["anonymize", str(tmp_path / "one.png"), "--out", str(tmp_path / run), "--seed", "5", *QUICK]) == 0
        with Image.open(tmp_path / run / "one.png") as picture:
            pixels.append(np.asarray(picture))
    assert np.array_equal(*pixels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.png", "--out", "out"], "found nothing at"),
        ([str(SAMPLES / "portrait.jpg"), "--out", "out", "--noise", "2"], "noise above 0"),
        ([str(SAMPLES / "portrait.jpg"), "--out", "out", "--device", "abacus"], "device torch can use"),
    ],
)
def test_unusable_arguments_are_refused(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert main(["anonymize", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_results_never_overwrite_originals(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (64, 64)).save(tmp_path / "mine.png")
    assert main(["anonymize", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "overwritten" in capsys.readouterr().err


def test_colour_profile_resolution_and_the_lack_of_colour_are_kept(tmp_path: Path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        small = picture.resize((171, 256))
    small.save(tmp_path / "colour.png", icc_profile=profile, dpi=(300, 300))
    small.convert("L").save(tmp_path / "grey.png")
    assert main(["anonymize", str(tmp_path), "--out", str(tmp_path / "out"), "--strength", "0", *QUICK]) == 0
    with Image.open(tmp_path / "out" / "colour.png") as written:
        assert written.info["icc_profile"] == profile
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    with Image.open(tmp_path / "out" / "grey.png") as written:
        assert written.mode == "L"


def test_a_face_that_is_too_small_is_pixelated_when_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        large, small = picture.convert("RGB").resize((171, 256)), picture.convert("RGB").resize((40, 60))
    crowd = Image.new("RGB", (300, 300), (120, 120, 120))
    crowd.paste(large, (110, 30))
    crowd.paste(small, (20, 20))
    crowd.save(tmp_path / "crowd.png")
    arguments = [
        "anonymize",
        str(tmp_path / "crowd.png"),
        "--out",
        str(tmp_path / "out"),
        "--min-size",
        "40",
        "--strength",
        "0",
    ]
    assert main([*arguments, *QUICK]) == 1
    assert "Say --blur-small" in capsys.readouterr().err
    assert main([*arguments, *QUICK, "--blur-small"]) == 0
    report = json.loads((tmp_path / "out" / "crowd.json").read_text(encoding="utf-8"))
    assert report["pixelated_faces"] == [0]
    assert len(report["faces"]) == 2
