"""Faces on their side and upside down are found with right landmarks; what is no face is not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from faceprivacy_core.faces import upright
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import load_ensemble
from faceprivacy_core.faces.upright import find_faces, is_plausible, roll_deg
from faceprivacy_core.metrics.report import compute_report
from faceprivacy_core.types import Face
from tests.support.faces import synthetic_face
from tests.support.people import canvas, head, landmark_error

RIGHT = 0.35
"""Largest error of landmarks that are right, in distances of eyes and mouth; an upright face's on its side miss by 1."""


@pytest.mark.parametrize("quarter", range(4))
def test_a_face_of_a_turned_picture_is_where_it_was(quarter: int):
    """Marks of one pixel turn as np.rot90 turns pictures."""
    face = synthetic_face(60, 40, 40)
    points = face.landmarks5.round()
    marks = np.zeros((90, 130), np.uint8)
    for number, (x, y) in enumerate(points.astype(int), start=1):
        marks[y, x] = number
    turned = np.rot90(marks, quarter)
    there = np.array([np.argwhere(turned == number)[0][::-1] for number in range(1, 6)], float)
    back = upright._turn_back(replace(face, landmarks5=there), quarter, marks.shape)
    np.testing.assert_array_equal(back.landmarks5, points)


def test_a_find_that_is_not_seen_from_close_by_is_no_face():
    picture, found = np.zeros((300, 300, 3), np.uint8), synthetic_face(150, 150, 160)
    seen = synthetic_face(95.5, 95.5, 160)

    def finds(picture: np.ndarray) -> list[tuple[int, Face]]:
        return [(0, found)]

    assert find_faces(picture, finds, lambda crop: []) == []
    assert find_faces(picture, finds, lambda crop: [replace(seen, confidence=0.55)]) == []
    assert find_faces(picture, finds, lambda crop: [synthetic_face(95.5, 95.5, 400)]) == []
    assert find_faces(picture, finds, lambda crop: [synthetic_face(20, 20, 160)]) == []
    assert len(find_faces(picture, finds, lambda crop: [seen])) == 1


@pytest.mark.parametrize(
    ("found", "look", "turns", "count"),
    [
        (0.74, 0.68, (9,), 0), (0.85, 0.68, (9,), 1), (0.74, 0.8, (9,), 1), (0.74, 0.68, (8, 9), 1), (0.74, 0.68, (9, 12), 1),
        (0.74, 0.68, (0, 12), 1),
    ],
)  # fmt: skip
def test_what_is_unsure_and_seen_from_one_side_alone_is_no_face(found: float, look: float, turns: tuple[int, ...], count: int):
    """A hood in the first case: found upright, seen lying. The turns are those of a circle; the last is that of the find."""
    picture, calls = np.zeros((300, 300, 3), np.uint8), iter(range(100))
    find = replace(synthetic_face(150, 150, 160), confidence=found)

    def seen(crop: np.ndarray) -> list[Face]:
        return [replace(synthetic_face(95.5, 95.5, 160), confidence=look)] if next(calls) in turns else []

    assert len(find_faces(picture, lambda _: [(0, find)], seen)) == count


@pytest.mark.parametrize("angle_deg", range(0, 360, 15))
def test_landmarks_of_a_face_are_plausible_at_any_roll(angle_deg: int):
    face = synthetic_face(100, 100, 80, angle_deg=angle_deg)
    assert is_plausible(face)
    assert abs((roll_deg(face.landmarks5) - angle_deg + 180) % 360 - 180) < 1e-6


@pytest.mark.parametrize(
    "order",
    [[3, 4, 2, 0, 1], [1, 0, 2, 4, 3], [0, 1, 2, 1, 0], [2, 2, 2, 2, 2]],
    ids=["upside down in its own frame and mirrored", "mirrored", "no mouth", "one point"],
)
def test_points_that_are_no_face_are_not_plausible(order: list[int]):
    face = synthetic_face(100, 100, 80)
    assert not is_plausible(replace(face, landmarks5=face.landmarks5[order]))


@pytest.mark.parametrize("change", [lambda p: p * 3, lambda p: p + 200, lambda p: p * np.nan, lambda p: (p - 100) * 0.3 + 100])
def test_points_far_from_their_box_are_not_plausible(change: object):
    face = synthetic_face(100, 100, 80)
    assert not is_plausible(replace(face, landmarks5=change(face.landmarks5)))


@pytest.mark.weights
@pytest.mark.parametrize("roll", range(0, 360, 15))
def test_a_face_is_found_with_right_landmarks_at_every_roll(roll: int):
    names = ("portrait", "openpeople 0", "openpeople 3")
    picture = canvas(300, 300)
    expected = head(names[roll // 15 % 3]).put(picture, 150, 150, 70, roll, reach=2.5)
    faces = load_detector().detect(picture)
    assert landmark_error(faces, expected) < RIGHT


@pytest.mark.weights
@pytest.mark.parametrize("roll", range(15, 360, 15))
def test_a_face_on_its_side_beside_an_upright_one_is_found_whoever_is_larger(roll: int):
    picture = canvas(330, 560)
    sizes = (90, 30) if roll // 15 % 2 else (30, 90)
    standing = head("openpeople 1").put(picture, 150, 165, sizes[0], reach=1.5)
    lying = head("portrait").put(picture, 420, 165, sizes[1], roll, reach=1.5)
    faces = load_detector().detect(picture)
    assert landmark_error(faces, standing) < RIGHT
    assert landmark_error(faces, lying) < RIGHT


@pytest.mark.weights
@pytest.mark.parametrize(("ratio", "shift"), [(2.0, (0.7, 0.5)), (3.0, (0.0, 0.0)), (3.0, (-0.5, 0.3)), (5.0, (0.25, 0.2))])
def test_a_speaker_before_a_slide_with_a_larger_face_is_found(ratio: float, shift: tuple[float, float]):
    picture, width = canvas(620, 700), 240.0
    head("portrait").put(picture, 350, 300, width, reach=1.2)
    at = (350 + shift[0] * width, 300 + shift[1] * width)
    expected = head("openpeople 2").put(picture, *at, width / ratio)
    assert landmark_error(load_detector().detect(picture), expected) < RIGHT


@pytest.mark.weights
@pytest.mark.parametrize("blur", [2, 6, 15])
def test_blurred_background_holds_no_face(blur: int):
    """What is round a head, without the head: hair, shoulders, walls, plants."""
    detector, looked = load_detector(), 0
    for name in ("portrait", "openpeople 0", "openpeople 4"):
        person = head(name)
        picture, side = person.picture.copy(), int(person.face.width)
        x, y = person.centre.astype(int)
        picture[max(0, y - side) : y + side, max(0, x - side) : x + side] = 128
        assert detector.detect(cv2.GaussianBlur(picture, (0, 0), blur)) == []
        looked += 1
    assert looked == 3


@pytest.mark.weights
@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_the_report_of_a_turned_picture_claims_no_less_recognition_than_the_upright_one(quarter: int):
    picture = canvas(300, 300)
    head("portrait").put(picture, 150, 150, 80, reach=2.5)
    changed = cv2.GaussianBlur(picture, (0, 0), 2)
    detector, recognizers = load_detector(), load_ensemble(("sface", "mobilefacenet-v1", "facenet-casia"))

    def similarities(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        report = compute_report(first, second, detector, recognizers, seen=(), mask=None, perceptual=None)
        assert len(report.faces) == 1
        return np.array([result.similarity for result in report.faces[0].recognizers])

    straight = similarities(picture, changed)
    turned = similarities(*(np.ascontiguousarray(np.rot90(one, quarter)) for one in (picture, changed)))
    assert straight.min() > 0.5
    assert (turned > straight - 0.1).all()
