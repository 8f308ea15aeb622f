"""The privacy report: values, schema, picture, command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from faceprivacy_core.commands import main
from faceprivacy_core.commands.pictures import read_mask, read_picture
from faceprivacy_core.errors import InputError, NoFaceError, NumericalError
from faceprivacy_core.metrics.draw import draw_report, summarize
from faceprivacy_core.metrics.report import PrivacyReport, compute_report
from faceprivacy_core.metrics.similarity import compute_similarity, cut_window
from faceprivacy_core.types import Face
from tests.core.test_metrics import smooth_picture
from tests.support.faces import synthetic_face
from tests.support.recognizer import ProjectionRecognizer

FACES = (synthetic_face(80, 90, 60), synthetic_face(220, 100, 70))


class TextureDetector:
    """Finds those of the given faces that show any texture around the nose."""

    name = "texture"

    def __init__(self, faces: Sequence[Face] = FACES) -> None:
        self.faces = faces

    def detect(self, image: np.ndarray) -> list[Face]:
        found = []
        for face in self.faces:
            x, y = face.landmarks5[2].astype(int)
            if image[y - 8 : y + 8, x - 8 : x + 8].std() > 1:
                found.append(face)
        return found


@pytest.fixture
def original() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 60, (200, 300, 3))
    return np.clip(smooth_picture(200, 300) // 2 + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    """The box of the first face, with some room."""
    mask = np.zeros((200, 300), dtype=np.float32)
    mask[40:140, 30:130] = 1.0
    return mask


@pytest.fixture
def protected(original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(original, (0, 0), 20)
    return np.where(mask[..., None] > 0, blurred, original)


def report_of(
    original: np.ndarray,
    protected: np.ndarray,
    recognizers: Sequence[ProjectionRecognizer] | None = None,
    *,
    seen: Collection[str] = (),
    mask: np.ndarray | None = None,
    detector: TextureDetector | None = None,
    faces: Sequence[Face] | None = None,
) -> PrivacyReport:
    recognizers = [ProjectionRecognizer("a", 1), ProjectionRecognizer("b", 2)] if recognizers is None else recognizers
    detector = TextureDetector() if detector is None else detector
    return compute_report(original, protected, detector, recognizers, seen=seen, mask=mask, perceptual=None, faces=faces)


def similarities(report: PrivacyReport) -> list[list[float]]:
    return [[item.similarity for item in face.recognizers] for face in report.faces]


def test_equal_pictures_are_the_same_person_everywhere(original: np.ndarray, mask: np.ndarray):
    report = report_of(original, original, mask=mask)
    assert len(report.faces) == 2
    for face in report.faces:
        assert face.detected_after
        assert [item.similarity for item in face.recognizers] == pytest.approx([1.0, 1.0], abs=1e-5)
        assert all(item.is_verified(fmr) for item in face.recognizers for fmr in (0.01, 0.001))
    quality = report.to_json_dict()["quality"]
    assert quality["inside"] == {"psnr_db": None, "ssim": 1.0, "lpips": None}
    assert quality["outside"] == {"psnr_db": None, "ssim": 1.0, "lpips": None, "max_abs_difference": 0}


def test_similarity_is_symmetric_and_bounded(original: np.ndarray, protected: np.ndarray):
    forth, back = (
        similarities(report_of(original, protected)),
        similarities(report_of(protected, original, faces=FACES)),
    )
    assert np.allclose(forth, back, atol=1e-6)
    assert np.all(np.abs(forth) <= 1)


def test_a_blurred_face_is_less_alike_and_the_other_is_not_touched(
    original: np.ndarray, protected: np.ndarray, mask: np.ndarray
):
    blurred, other = similarities(report_of(original, protected, mask=mask))
    assert max(blurred) < 0.99
    assert other == pytest.approx([1.0, 1.0], abs=1e-5)


def test_pixels_outside_the_mask_that_were_not_touched_differ_by_zero(
    original: np.ndarray, protected: np.ndarray, mask: np.ndarray
):
    report = report_of(original, protected, mask=mask)
    assert report.outside.max_abs_difference == 0
    protected[190, 290, 1] ^= 8
    assert report_of(original, protected, mask=mask).outside.max_abs_difference == 8


def test_every_given_face_gets_one_result_in_order(original: np.ndarray, protected: np.ndarray):
    faces = (FACES[1], FACES[0], synthetic_face(150, 60, 40))
    report = report_of(original, protected, faces=faces)
    assert [face.index for face in report.faces] == [0, 1, 2]
    assert [face.face for face in report.faces] == list(faces)
    assert all(len(face.recognizers) == 2 for face in report.faces)


def test_a_face_that_is_gone_is_reported_as_not_detected(original: np.ndarray, mask: np.ndarray):
    flat = np.where(mask[..., None] > 0, np.uint8(128), original)
    report = report_of(original, flat, mask=mask)
    assert [face.detected_after for face in report.faces] == [False, True]


def test_a_face_elsewhere_is_not_the_same_face(original: np.ndarray):
    moved = [synthetic_face(80 + 0.6 * FACES[0].width, 90, 60)]
    near = [synthetic_face(80 + 0.4 * FACES[0].width, 90, 60)]
    for found, expected in ((moved, False), (near, True)):
        report = report_of(original, original, detector=TextureDetector(found), faces=FACES[:1])
        assert report.faces[0].detected_after is expected


def test_the_similarity_is_never_flatter_than_at_the_landmarks_of_the_original(original: np.ndarray, protected: np.ndarray):
    recognizer = ProjectionRecognizer()
    near = synthetic_face(88, 94, 66)
    report = report_of(original, protected, [recognizer], detector=TextureDetector([near]), faces=FACES[:1])
    before = cut_window(original, FACES[0].landmarks5)
    after = [cut_window(protected, face.landmarks5) for face in (FACES[0], near)]
    single = [compute_similarity(before, [window], recognizer) for window in after]
    assert single[0] != single[1]
    assert report.faces[0].recognizers[0].similarity == max(single)


def test_a_recogniser_sees_a_window_and_the_landmarks_move_with_it():
    class Spy(ProjectionRecognizer):
        def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
            seen.append((images, landmarks5))
            return super().embed(images, landmarks5)

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    picture = smooth_picture(700, 900)
    face = synthetic_face(600.0, 300.0, 80)
    report_of(picture, picture, [Spy()], detector=TextureDetector([face]))
    assert len(seen) == 3
    for images, landmarks5 in seen:
        assert max(images.shape[-2:]) < 300
        x, y = landmarks5[0, 2].round().int().tolist()
        nose_x, nose_y = face.landmarks5[2].round().astype(int)
        pixel = torch.from_numpy(picture[nose_y, nose_x]).float() / 255
        torch.testing.assert_close(images[0, :, y, x], pixel, rtol=0, atol=1e-6)


def test_a_face_at_the_border_is_measured(original: np.ndarray):
    face = synthetic_face(4, 4, 80)
    report = report_of(original, original, faces=[face])
    assert similarities(report)[0] == pytest.approx([1.0, 1.0], abs=1e-5)


def test_roles_follow_the_names_of_the_seen(original: np.ndarray):
    report = report_of(original, original, seen={"b"})
    assert [item.role for item in report.faces[0].recognizers] == ["held out", "seen"]


def test_the_json_has_the_promised_keys(original: np.ndarray, protected: np.ndarray, mask: np.ndarray):
    report = json.loads(json.dumps(report_of(original, protected, seen={"a"}, mask=mask).to_json_dict(), allow_nan=False))
    assert list(report) == ["schema_version", "image", "faces", "quality", "seconds"]
    assert report["schema_version"] == 1
    assert report["image"] == {"height": 200, "width": 300}
    assert len(report["faces"]) == 2
    assert list(report["faces"][0]) == ["index", "bbox_xyxy", "detected_after", "recognizers"]
    assert list(report["faces"][0]["recognizers"][0]) == [
        "name", "family", "role", "licence", "similarity", "threshold_fmr_1e-2", "threshold_fmr_1e-3",
        "verified_fmr_1e-2", "verified_fmr_1e-3",
    ]  # fmt: skip
    assert list(report["quality"]) == ["region", "inside", "outside"]
    assert list(report["quality"]["inside"]) == ["psnr_db", "ssim", "lpips"]
    assert list(report["quality"]["outside"]) == ["psnr_db", "ssim", "lpips", "max_abs_difference"]


def test_without_a_mask_the_outside_is_not_judged(original: np.ndarray, protected: np.ndarray):
    quality = report_of(original, protected).to_json_dict()["quality"]
    assert quality["region"] == "differences"
    assert quality["inside"]["psnr_db"] > 0
    assert set(quality["outside"].values()) == {None}


def test_a_similarity_at_the_threshold_counts_as_recognised(original: np.ndarray):
    item = report_of(original, original).faces[0].recognizers[0]
    at, below = (dataclasses.replace(item, similarity=value) for value in (0.3, 0.2999))
    assert (at.is_verified(0.01), at.is_verified(0.001), below.is_verified(0.01)) == (True, False, False)


def test_inputs_are_not_modified(original: np.ndarray, protected: np.ndarray, mask: np.ndarray):
    copies = [array.copy() for array in (original, protected, mask)]
    draw_report(report_of(original, protected, mask=mask), original, protected)
    assert all(np.array_equal(*pair) for pair in zip(copies, (original, protected, mask), strict=True))


def test_a_report_without_chosen_faces_says_that_nobody_was_compared(original: np.ndarray):
    report = report_of(original, original, faces=[])
    assert report.to_json_dict()["faces"] == []
    assert "nobody was compared" in summarize(report)
    assert draw_report(report, original, original).shape[1:] == (1200, 3)


class TestRefusals:
    def test_no_face(self, original: np.ndarray):
        with pytest.raises(NoFaceError, match="found none"):
            report_of(original, original, detector=TextureDetector([]))

    def test_other_size_names_both(self, original: np.ndarray):
        with pytest.raises(InputError, match="300 x 200 and 300 x 190"):
            report_of(original, original[:190])

    def test_no_recogniser_or_one_twice(self, original: np.ndarray):
        with pytest.raises(InputError, match="at least one"):
            report_of(original, original, [])
        with pytest.raises(InputError, match="different"):
            report_of(original, original, [ProjectionRecognizer(), ProjectionRecognizer()])

    def test_an_unknown_seen_name_would_pass_for_held_out(self, original: np.ndarray):
        with pytest.raises(InputError, match="got also typo"):
            report_of(original, original, seen={"a", "typo"})

    def test_a_recogniser_without_thresholds(self, original: np.ndarray):
        recognizer = ProjectionRecognizer()
        recognizer.thresholds = {0.01: 0.3}
        with pytest.raises(InputError, match="Calibrate"):
            report_of(original, original, [recognizer])

    def test_a_vector_that_is_not_a_number_would_pass_for_not_recognised(self, original: np.ndarray):
        recognizer = ProjectionRecognizer()
        recognizer.projection *= float("nan")
        with pytest.raises(NumericalError, match="toy"):
            report_of(original, original, [recognizer])

    def test_a_face_outside_the_picture(self, original: np.ndarray):
        with pytest.raises(InputError, match="inside the picture of 300 x 200"):
            report_of(original, original, faces=[synthetic_face(900, 900, 60)])

    def test_a_mask_of_another_size(self, original: np.ndarray):
        with pytest.raises(InputError, match="mask"):
            report_of(original, original, mask=np.zeros((10, 10), dtype=np.float32))


class TestDrawing:
    @pytest.mark.parametrize("count", [1, 6, 9])
    def test_the_picture_grows_with_the_faces_up_to_six(self, original: np.ndarray, protected: np.ndarray, count: int):
        report = report_of(original, protected)
        many = dataclasses.replace(report, faces=(report.faces * 5)[:count])
        drawn = draw_report(many, original, protected)
        assert drawn.dtype == np.uint8
        assert drawn.shape[1:] == (1200, 3)
        six = draw_report(dataclasses.replace(report, faces=report.faces * 3), original, protected)
        assert (drawn.shape[0] > six.shape[0]) == (count > 6)

    @pytest.mark.parametrize(
        ("held_out", "seen", "sentence"),
        [
            (0.1, 0.1, "The person is not recognised by any independent recogniser."),
            (0.35, 0.1, "The person is possibly still recognised by an independent recogniser."),
            (0.9, 0.1, "The person is still recognised by an independent recogniser."),
            (0.1, 0.9, "The person is not recognised by any independent recogniser. "
             "A recogniser that the method used still finds someone."),
            (None, 0.1, "The person is not recognised by any recogniser. No independent one was asked."),
        ],
    )  # fmt: skip
    def test_the_summary_is_never_flatter_than_the_results(
        self, original: np.ndarray, held_out: float | None, seen: float, sentence: str
    ):
        report = report_of(original, original, seen={"b"}, faces=FACES[:1])
        pair = report.faces[0].recognizers
        items = [dataclasses.replace(pair[1], similarity=seen)]
        items += [] if held_out is None else [dataclasses.replace(pair[0], similarity=held_out)]
        face = dataclasses.replace(report.faces[0], recognizers=tuple(items))
        assert summarize(dataclasses.replace(report, faces=(face,))) == sentence

    def test_the_summary_counts_people(self, original: np.ndarray):
        report = report_of(original, original)
        assert summarize(report) == "2 of 2 people are still recognised by an independent recogniser."
        items = tuple(dataclasses.replace(item, similarity=0.0) for item in report.faces[0].recognizers)
        gone = dataclasses.replace(report.faces[0], recognizers=items)
        one = dataclasses.replace(report, faces=(gone, report.faces[1]))
        none = dataclasses.replace(report, faces=(gone, gone))
        assert summarize(one) == "1 of 2 people is still recognised by an independent recogniser."
        assert summarize(none) == "None of 2 people is recognised by any independent recogniser."


class TestPictureFiles:
    def test_orientation_is_applied(self, tmp_path: Path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(smooth_picture(20, 30)).save(tmp_path / "turned.png", exif=exif)
        assert np.array_equal(read_picture(tmp_path / "turned.png"), np.rot90(smooth_picture(20, 30), -1))

    @pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
    def test_grey_palette_and_opaque_alpha_become_rgb(self, tmp_path: Path, mode: str):
        Image.fromarray(smooth_picture(20, 30)).convert(mode).save(tmp_path / "other.png")
        picture = read_picture(tmp_path / "other.png")
        assert (picture.shape, picture.dtype) == ((20, 30, 3), np.uint8)

    def test_a_mask_is_grey_from_zero_to_one(self, tmp_path: Path):
        Image.fromarray(np.array([[0, 51, 255]] * 2, dtype=np.uint8)).save(tmp_path / "mask.png")
        assert read_mask(tmp_path / "mask.png").tolist()[0] == pytest.approx([0.0, 0.2, 1.0])

    def test_what_is_not_a_plain_picture_is_refused_by_name(self, tmp_path: Path):
        picture = Image.fromarray(smooth_picture(20, 30))
        clear = picture.convert("RGBA")
        clear.putpixel((3, 3), (0, 0, 0, 254))
        clear.save(tmp_path / "alpha.png")
        picture.convert("CMYK").save(tmp_path / "ink.jpg")
        picture.save(tmp_path / "moving.gif", save_all=True, append_images=[picture.rotate(90)])
        cv2.imwrite(str(tmp_path / "deep.png"), smooth_picture(20, 30).astype(np.uint16) * 256)
        cv2.imwrite(str(tmp_path / "deepgrey.png"), smooth_picture(20, 30)[..., 0].astype(np.uint16) * 256)
        picture.save(tmp_path / "whole.png")
        (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-300])
        (tmp_path / "text.png").write_text("no picture")
        messages = {
            "alpha.png": "transparent", "ink.jpg": "CMYK", "moving.gif": "2 frames", "deep.png": "8 bits",
            "deepgrey.png": "8 bits", "cut.png": "cannot be read", "text.png": "none that can be read",
            "missing.png": "no such file",
        }  # fmt: skip
        for name, message in messages.items():
            with pytest.raises(InputError, match=message):
                read_picture(tmp_path / name)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo of somebody who does not exist, a blurred copy of it, and the mask."""
    people = Path(pytest.importorskip("openpeople").__file__).parent / "data" / "curated"
    folder = tmp_path_factory.mktemp("portrait")
    with Image.open(min(people.glob("P0*/assets/studio_portrait.jpg"))) as opened:
        picture = np.asarray(opened.convert("RGB").resize((320, 320)))
    mask = np.zeros(picture.shape[:2], dtype=np.uint8)
    mask[58:250, 92:233] = 255
    blurred = cv2.GaussianBlur(picture, (0, 0), 10)
    after = np.where(mask[..., None] > 0, blurred, picture)
    for name, array in (("before", picture), ("after", after), ("mask", mask)):
        Image.fromarray(array).save(folder / f"{name}.png")
    return folder


@pytest.mark.weights
class TestCommand:
    def test_report_writes_json_and_picture(self, portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        files = [str(portrait / "before.png"), str(portrait / "after.png"), "--mask", str(portrait / "mask.png")]
        assert main(["report", *files, "--seen", "sface", "--out", str(tmp_path / "new")]) == 0
        report = json.loads((tmp_path / "new" / "after.report.json").read_text(encoding="utf-8"))
        assert len(report["faces"]) == 1
        items = report["faces"][0]["recognizers"]
        assert len(items) == 5
        assert [item["name"] for item in items if item["role"] == "seen"] == ["sface"]
        assert max(item["similarity"] for item in items) < 0.7
        assert report["quality"]["outside"]["max_abs_difference"] == 0
        assert report["quality"]["inside"]["lpips"] > 0.1
        assert read_picture(tmp_path / "new" / "after.report.png").shape[1] == 1200
        said = capsys.readouterr().out
        assert "Face 0: " in said
        assert "after.report.json" in said

    def test_the_same_picture_is_the_same_person_for_every_recogniser_in_any_language(
        self, portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        path = str(portrait / "before.png")
        assert main(["report", path, path, "--out", str(tmp_path), "--language", "de"]) == 0
        assert "Gesicht 0: erkannt von sface, " in capsys.readouterr().out
        report = json.loads((tmp_path / "before.report.json").read_text(encoding="utf-8"))
        assert {item["role"] for item in report["faces"][0]["recognizers"]} == {"seen", "held out"}
        items = report["faces"][0]["recognizers"]
        assert len(items) == 5
        assert [item["similarity"] for item in items] == pytest.approx([1.0] * 5, abs=1e-5)
        assert all(item["verified_fmr_1e-3"] for item in items)

    def test_an_unknown_recogniser_is_named_and_nothing_is_written(
        self, portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        path = str(portrait / "before.png")
        assert main(["report", path, path, "--seen", "nobody", "--out", str(tmp_path / "new")]) == 1
        assert "nobody" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
