"""Several finds of one face become one; two faces stay two, whatever their sizes, places and order."""

import itertools
import time

import pytest

from faceprivacy_core.faces.duplicates import distinct_faces, merge_faces
from faceprivacy_core.types import Face
from tests.support.faces import synthetic_face


def _face(x: float, y: float, size: float, confidence: float) -> Face:
    face = synthetic_face(x, y, size)
    return Face(0, face.bbox_xyxy, face.landmarks5, confidence)


def test_the_surest_find_of_one_face_is_kept_and_both_of_two():
    same = [_face(100, 100, 80, 0.8), _face(102, 101, 84, 0.9)]
    other = _face(300, 100, 80, 0.7)
    for order in itertools.permutations([*same, other]):
        assert [face.confidence for face in merge_faces(order)] == [0.9, 0.7]
    assert merge_faces([]) == []


@pytest.mark.parametrize("factor", [0.7, 0.85, 1.2, 1.45])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_finds_of_about_one_size_and_place_are_one_face(factor: float, shift: float):
    finds = [_face(300, 300, 200, 0.95), _face(300 + shift * 100, 300, 200 * factor, 0.9)]
    assert [len(merge_faces(order)) for order in (finds, finds[::-1])] == [1, 1]


@pytest.mark.parametrize("factor", [2.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.0, 0.1), (0.2, -0.1), (-0.4, 0.4), (0.6, 0.0)])
@pytest.mark.parametrize("confidences", [(0.95, 0.9), (0.9, 0.95)])
def test_a_face_before_or_beside_one_of_another_size_stays(
    factor: float, shift: tuple[float, float], confidences: tuple[float, float]
):
    width = 200.0  # of the large face's box
    large = _face(500, 500, 400, confidences[0])
    small = _face(500 + shift[0] * width, 500 + shift[1] * width, 400 / factor, confidences[1])
    assert [len(merge_faces(order)) for order in ([large, small], [small, large])] == [2, 2]


def test_an_unsure_part_of_a_face_goes_and_a_sure_small_face_stays():
    whole = _face(200, 200, 400, 0.95)
    assert len(merge_faces([whole, _face(150, 160, 80, 0.75)])) == 1
    assert len(merge_faces([whole, _face(150, 160, 80, 0.9)])) == 2


def test_a_crowd_takes_time_by_its_faces():
    """2,000 finds of 1,000 faces; looking through pairs one by one took half a minute."""
    finds = [_face(100 + 60 * (i % 40), 100 + 60 * (i // 40), 40, 0.9 - 1e-4 * i) for i in range(1000)]
    again = [_face(101 + 60 * (i % 40), 100 + 60 * (i // 40), 42, 0.7) for i in range(1000)]
    started = time.process_time()
    assert len(merge_faces(finds + again)) == len(distinct_faces(again + finds)) == 1000
    assert time.process_time() - started < 3.0
