"""`faceprivacy anonymize` on real pictures with the real models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from faceprivacy_core.commands import main

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
QUICK = ["--steps", "4", "--noise", "0.6"]
ABSENT = [name for name, part in (("mps", torch.backends.mps), ("cuda", torch.cuda)) if not part.is_available()]

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def _few_donors() -> None:
    """Here all donors are tried: some results are shared by the module, others are compared with them."""


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two good pictures, one without a face, and a broken file."""
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(SAMPLES / "two_people.jpg") as picture:
        picture.resize((512, 320)).save(folder / "two.png", icc_profile=PROFILE, dpi=(300, 300))
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        picture.resize((171, 256)).convert("L").save(folder / "grey.png")
    Image.new("RGB", (200, 200), (90, 120, 150)).save(folder / "empty.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def outcome(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Run once over the whole folder."""
    out = tmp_path_factory.mktemp("out")
    return main(["anonymize", str(pictures), "--out", str(out), "--seed", "5", *QUICK]), out


def test_status_tells_that_some_pictures_failed_and_only_good_ones_are_written(outcome: tuple[int, Path]):
    status, out = outcome
    assert status == 1
    assert sorted(path.name for path in out.iterdir()) == ["grey.json", "grey.png", "two.json", "two.png"]


def test_the_result_has_the_inputs_size_and_profile_and_no_other_metadata(outcome: tuple[int, Path]):
    with Image.open(outcome[1] / "two.png") as picture:
        assert picture.size == (512, 320)
        assert picture.mode == "RGB"
        assert picture.info.pop("icc_profile") == PROFILE
        assert picture.info.pop("dpi") == pytest.approx((300, 300), abs=0.02)
        assert not picture.info


def test_a_picture_without_colour_stays_one(outcome: tuple[int, Path]):
    with Image.open(outcome[1] / "grey.png") as picture:
        assert picture.mode == "L"


def test_the_report_lists_every_face_and_recogniser(outcome: tuple[int, Path]):
    report = json.loads((outcome[1] / "two.json").read_text(encoding="utf-8"))
    assert report["picture"] == "two.png"
    assert [face["index"] for face in report["faces"]] == [0, 1]
    for face in report["faces"]:
        roles = [recognizer["role"] for recognizer in face["recognizers"]]
        assert roles == ["seen"] * 2 + ["held out"] * 3
    assert report["quality"]["outside"]["max_abs_difference"] == 0
    assert report["seconds"] > 0


def test_the_same_seed_writes_the_same_pixels_also_for_a_picture_alone(
    outcome: tuple[int, Path], pictures: Path, tmp_path: Path
):
    assert main(["anonymize", str(pictures / "grey.png"), "--out", str(tmp_path), "--seed", "5", *QUICK]) == 0
    pixels = []
    for folder in (tmp_path, outcome[1]):
        with Image.open(folder / "grey.png") as picture:
            pixels.append(np.asarray(picture))
    assert np.array_equal(*pixels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.png", "--out", "out"], "found nothing at"),
        ([str(SAMPLES / "portrait.jpg"), "--out", "out", "--noise", "2"], "noise above 0"),
        *(
            ([str(SAMPLES / "portrait.jpg"), "--out", "out", "--device", device], f"device torch can use, got '{device}'")
            for device in ("abacus", *ABSENT)
        ),
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
