"""Face detection: geometry laws without weights, pictures with them."""

from __future__ import annotations

import itertools
import os
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.faces import detect
from faceprivacy_core.freed import give_back

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "two_people.jpg"


@pytest.fixture(scope="module")
def detector() -> detect.YuNetDetector:
    try:
        return detect.load_detector()
    except ModelFileError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(SAMPLE)), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("size", [(16, 16), (640, 480), (3000, 4000), (16, 9000), (5000, 5000)])
def test_tiles_cover_a_level_and_overlap(size: tuple[int, int]):
    covered = np.zeros(size, dtype=np.uint8)
    tiles = detect._tiles(size)
    for top, left in tiles:
        assert 0 <= top < size[0]
        assert 0 <= left < size[1]
        covered[top : top + detect.TILE, left : left + detect.TILE] = 1
    assert covered.all()
    starts = sorted({left for _, left in tiles})
    assert all(b - a <= detect.TILE - detect.TILE_OVERLAP for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("long_side", [16, 100, 192, 1000, 1599, 1600, 4000, 12000])
def test_pyramid_ends_where_a_face_that_fills_the_frame_is_found(long_side: int):
    sides = [long_side * scale for scale in detect._scales((long_side, long_side // 2))]
    assert sides == sorted(sides, reverse=True)
    assert detect.COARSEST_LONG_SIDE <= sides[-1] < 2 * detect.COARSEST_LONG_SIDE
    assert sides[0] >= long_side


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 3), np.float32),
        np.zeros((8, 50, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray):
    with pytest.raises(InputError, match="Expected a"):
        detect.check_picture(picture)


def test_a_confidence_outside_0_to_1_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="between 0 and 1"):
        detect.YuNetDetector(tmp_path / "none.onnx", 1.5)


@pytest.mark.weights
def test_both_people_of_the_sample_are_found_with_ordered_landmarks(detector: detect.YuNetDetector, people: np.ndarray):
    before = people.copy()
    faces = detector.detect(people)
    np.testing.assert_array_equal(people, before)
    assert len(faces) == 2
    for face in faces:
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks5
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert face.bbox_xyxy[0] < nose[0] < face.bbox_xyxy[2]
        assert face.confidence > 0.9
    again = detector.detect(people)
    assert [face.bbox_xyxy for face in again] == [face.bbox_xyxy for face in faces]


@pytest.mark.weights
def test_a_large_picture_is_searched_without_copies_of_it(detector: detect.YuNetDetector, monkeypatch: pytest.MonkeyPatch):
    """24 megapixels in four turns; what the network itself takes is that of a tile."""

    class Blind:
        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802 - OpenCV's name
            assert max(size) <= detect.TILE

        def detect(self, tile: np.ndarray) -> tuple[int, None]:
            assert tile.flags.c_contiguous
            return 0, None

    monkeypatch.setattr(detector, "_network", Blind())
    picture = np.full((4000, 6000, 3), 120, np.uint8)
    tracemalloc.start()
    try:
        assert detector.detect(picture) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * picture.nbytes


@pytest.mark.weights
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_memory_of_a_large_picture_is_given_back(detector: detect.YuNetDetector):
    """The network keeps what its largest input took; the method that comes next needs it."""
    picture = np.full((detect.TILE, detect.TILE, 3), 120, np.uint8)
    detector.detect(picture[:64, :64])
    give_back()
    before = resident_bytes()
    detector.detect(picture)
    give_back()
    assert resident_bytes() - before < 60e6


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.weights
@pytest.mark.parametrize("width", [14, 40, 300])
def test_faces_of_any_size_are_found_where_they_are(detector: detect.YuNetDetector, people: np.ndarray, width: int):
    original = max(detector.detect(people), key=lambda face: face.area)
    scale = width / original.width
    small = cv2.resize(people, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((1700, 2400, 3), 120, np.uint8)
    canvas[100 : 100 + small.shape[0], 200 : 200 + small.shape[1]] = small[:1600, :2200]
    faces = detector.detect(canvas)
    assert len(faces) == 2
    expected = (original.landmarks5 + 0.5) * scale - 0.5 + (200, 100)
    error = min(np.abs(face.landmarks5 - expected).max() for face in faces)
    assert error < 0.08 * width + 0.5


@pytest.mark.weights
@pytest.mark.parametrize("side", [64, 256, 900])
def test_a_face_that_fills_the_frame_is_found(detector: detect.YuNetDetector, people: np.ndarray, side: int):
    left, top, right, bottom = (round(value) for value in detector.detect(people)[0].bbox_xyxy)
    face = cv2.resize(people[top:bottom, left:right], (side, side))
    assert len(detector.detect(face)) == 1


@pytest.mark.weights
def test_noise_and_the_smallest_picture_hold_no_face(detector: detect.YuNetDetector):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(noise[:16, :16]) == []
