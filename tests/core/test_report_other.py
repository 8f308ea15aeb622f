"""The report beside another photo of the person, and what was wanted of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprivacy_core.commands import main
from faceprivacy_core.commands.report import describe_other
from faceprivacy_core.errors import NoFaceError
from faceprivacy_core.metrics.draw import BAR_LEFT, BAR_WIDTH, UNWANTED, WANTED, Wish, draw_report
from faceprivacy_core.metrics.report import PrivacyReport, compute_report
from faceprivacy_core.metrics.similarity import compute_similarity, cut_window
from tests.core.test_metrics import smooth_picture
from tests.core.test_report import FACES, TextureDetector
from tests.support.recognizer import ProjectionRecognizer

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "portrait.jpg"
RECOGNIZERS = (ProjectionRecognizer("a", 1), ProjectionRecognizer("b", 2))
LARGER = max(FACES, key=lambda face: face.area)


@pytest.fixture
def original() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 60, (200, 300, 3))
    return np.clip(smooth_picture(200, 300) // 2 + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def protected(original: np.ndarray) -> np.ndarray:
    """The first face is blurred, the second is not touched."""
    changed = original.copy()
    changed[40:140, 30:130] = cv2.GaussianBlur(original, (0, 0), 20)[40:140, 30:130]
    return changed


def report_of(original: np.ndarray, protected: np.ndarray, other: np.ndarray | None) -> PrivacyReport:
    return compute_report(
        original, protected, TextureDetector(), RECOGNIZERS, seen=(), mask=None, perceptual=None, faces=FACES, other=other
    )  # fmt: skip


def test_every_face_is_compared_with_the_largest_one_of_the_other_photo_before_and_after(
    original: np.ndarray, protected: np.ndarray
):
    kept = original.copy()
    plain, report = (report_of(original, protected, other) for other in (None, original))
    assert np.array_equal(original, kept)
    third = cut_window(original, LARGER.landmarks5)
    for face, without in zip(report.faces, plain.faces, strict=True):
        for recognizer, item, alone in zip(RECOGNIZERS, face.recognizers, without.recognizers, strict=True):
            assert alone.other is None
            assert item.similarity == alone.similarity
            before, after = (cut_window(picture, face.face.landmarks5) for picture in (original, protected))
            assert item.other.before == pytest.approx(compute_similarity(third, [before], recognizer))
            assert item.other.after == pytest.approx(compute_similarity(third, [after], recognizer))
    blurred, untouched = report.faces
    assert all(item.other.before == item.other.after > 0.999 for item in untouched.recognizers)
    assert all(item.other.before != item.other.after for item in blurred.recognizers)


def test_it_stands_in_json_picture_and_text_and_only_then(original: np.ndarray, protected: np.ndarray):
    plain, report = (report_of(original, protected, other) for other in (None, original))
    found, absent = (one.to_json_dict()["faces"][1]["recognizers"][0] for one in (report, plain))
    assert found["other"] == {
        "similarity_before": pytest.approx(1.0, abs=1e-5), "similarity_after": pytest.approx(1.0, abs=1e-5),
        "verified_before_fmr_1e-2": True, "verified_before_fmr_1e-3": True,
        "verified_after_fmr_1e-2": True, "verified_after_fmr_1e-3": True,
    }  # fmt: skip
    assert "other" not in absent
    json.dumps(report.to_json_dict(), allow_nan=False)
    assert not np.array_equal(draw_report(report, original, protected), draw_report(plain, original, protected))
    said = describe_other(report.faces[1])
    assert said.endswith("of 2 recognisers 2 (possibly 2) knew the person before, 2 (possibly 2) after")


def test_another_photo_without_a_face_is_refused(original: np.ndarray, protected: np.ndarray):
    with pytest.raises(NoFaceError, match="other photo of the person, found none"):
        report_of(original, protected, np.full_like(original, 128))


@pytest.mark.weights
def test_the_command_takes_another_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["report", str(SAMPLE), str(SAMPLE), "--other", str(SAMPLE), "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "knew the person before" in capsys.readouterr().out
    report = json.loads((tmp_path / "portrait.report.json").read_text(encoding="utf-8"))
    assert all(item["other"]["verified_after_fmr_1e-3"] for item in report["faces"][0]["recognizers"])


def test_what_is_wanted_decides_which_answers_are_good_ones(original: np.ndarray):
    """Blue is what was wanted, orange what was not: for an unchanged face that is the opposite of each other."""
    report = report_of(original, original, None)
    colours = {"wanted": WANTED, "unwanted": UNWANTED}
    shown = {}
    for wish in Wish:
        drawn = draw_report(report, original, original, wish)[:, BAR_LEFT : BAR_LEFT + BAR_WIDTH]
        shown[wish] = {name for name, colour in colours.items() if bool((drawn == colour).all(axis=2).sum() > 1000)}
    assert shown == {Wish.UNKNOWN: {"unwanted"}, Wish.KNOWN: {"wanted"}}
