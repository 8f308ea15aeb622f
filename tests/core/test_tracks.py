"""Faces of consecutive frames linked into people: the sample's two people walk past each other, and a cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.preview import draw_numbers
from faceprivacy_core.faces.recognizers import TorchRecognizer, load_recognizer
from faceprivacy_core.faces.select import Which
from faceprivacy_core.picture_files import read_picture_file
from faceprivacy_core.tracks import Followed, TrackSettings, choose_people, follow_faces
from faceprivacy_core.tracks.cuts import CutFinder
from faceprivacy_core.tracks.steady import MAX_MOVE, steady_faces
from faceprivacy_core.types import Face, Faces
from tests.support.clips import Scene, background, walk
from tests.support.faces import synthetic_face

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
COUNT, CUT, HIDDEN = 24, 12, (4, 5, 6)
"""Frames, the first one after the cut, and those in which the first person is behind the second."""
SIZE = (180, 320)

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(walk(COUNT))


@pytest.fixture(scope="module")
def recognizer() -> TorchRecognizer:
    return load_recognizer("mobilefacenet-v1")


def found_in(scenes: list[Scene], *, seed: int = 0) -> tuple[Faces, dict[int, int]]:
    """Return what a detector would find, in any order, and who each face is, by the identity of the object's nose."""
    items, who = [], {}
    generator = np.random.default_rng(seed)
    for index, scene in enumerate(scenes):
        here = [
            (who_, face) for who_, face in zip(scene.people, scene.faces, strict=True) if not (who_ == 0 and index in HIDDEN)
        ]
        for person, face in (here[place] for place in generator.permutation(len(here))):
            items.append(replace(face, image_index=index, confidence=0.9))
            who[(index, round(float(face.bbox_xyxy[0]), 6))] = person
    return Faces(tuple(items), len(scenes), *SIZE), who


@pytest.fixture(scope="module")
def followed(scenes: list[Scene], recognizer: TorchRecognizer) -> Followed:
    faces, _ = found_in(scenes)
    return follow_faces((scene.picture for scene in scenes), faces, recognizer)


def nearest(scene: Scene, face: Face) -> tuple[int, float]:
    """Return who of a scene stands where a face is, and how far off it is, in heights."""
    far = [float(np.linalg.norm(face.landmarks5 - true.landmarks5, axis=1).mean()) / true.height for true in scene.faces]
    return int(np.argmin(far)), min(far)


def test_two_people_stay_two_through_occlusion_and_cut(scenes: list[Scene], followed: Followed):
    assert followed.people == 2
    assert followed.shots == (0, CUT)
    seen = [face for face in followed.faces.items if face.confidence > 0]
    pairs = {(face.track, nearest(scenes[face.image_index], face)[0]) for face in seen}
    assert len(pairs) == 2, f"identities were swapped: {pairs}"


def test_a_face_that_was_lost_is_filled_in_where_it_is(scenes: list[Scene], followed: Followed):
    assert all(len(followed.faces.of_image(index)) == 2 for index in range(COUNT))
    filled = followed.filled()
    assert [face.image_index for face in filled] == list(HIDDEN)
    for face in filled:
        true = scenes[face.image_index].faces[0]
        assert np.linalg.norm(face.landmarks5 - true.landmarks5, axis=1).mean() < 0.15 * true.height


def test_every_face_that_was_found_is_kept_in_its_place(scenes: list[Scene], followed: Followed):
    faces, _ = found_in(scenes)
    for face in faces.items:
        here = followed.faces.of_image(face.image_index)
        moved = min(np.hypot(*(one.landmarks5 - face.landmarks5).T).max() for one in here)
        assert moved <= MAX_MOVE * face.area**0.5 + 1e-9
    assert all(len({face.track for face in followed.faces.of_image(i)}) == 2 for i in range(COUNT))


def test_the_order_of_the_finds_does_not_matter(scenes: list[Scene], followed: Followed, recognizer: TorchRecognizer):
    part = scenes[:8]
    runs = []
    for seed in (1, 2):
        faces, _ = found_in(part, seed=seed)
        runs.append(follow_faces([scene.picture for scene in part], faces, recognizer))
    places = [sorted((face.image_index, *np.round(face.landmarks5.ravel(), 6)) for face in run.faces.items) for run in runs]
    assert places[0] == places[1]


def test_a_photo_chooses_one_person_for_the_whole_clip(scenes: list[Scene], followed: Followed, recognizer: TorchRecognizer):
    portrait = read_picture_file(SAMPLES / "portrait.jpg").pixels
    looks = {
        person: [(scenes[face.image_index].picture, face) for face in followed.faces.items if face.track == person][:2]
        for person in range(2)
    }
    given = ([recognizer], [portrait], load_detector())
    only = choose_people(looks, Which.ONLY_REFERENCE, *given)
    assert len(only) == 1
    assert choose_people(looks, Which.EXCEPT_REFERENCE, *given) == {0, 1} - only
    assert {face.track for face in followed.only(only).faces.items} == only
    with pytest.raises(NoFaceError, match="reference picture 0"):
        choose_people(looks, Which.ONLY_REFERENCE, [recognizer], [background(200, 200, 1)], load_detector())
    with pytest.raises(InputError, match="reference picture or a saved person, and recognisers"):
        choose_people(looks, Which.ONLY_REFERENCE, [], [portrait], load_detector())


def test_a_clip_without_faces_has_no_people(recognizer: TorchRecognizer):
    nobody = follow_faces([background(320, 180, 1)] * 3, Faces((), 3, *SIZE), recognizer)
    assert (nobody.people, len(nobody.faces), nobody.faces.num_images) == (0, 0, 3)


def test_the_preview_bears_the_number_of_the_person():
    picture = np.zeros((180, 240, 3), np.uint8)
    face, mask = synthetic_face(120, 100, 120), np.zeros((180, 240))
    first, third = (draw_numbers(picture, [replace(face, track=track)], mask) for track in (0, 3))
    assert not np.array_equal(first, third)
    assert np.array_equal(first, draw_numbers(picture, [face], mask))


def moving(frames: int, *, jitter: float = 0.0, skip: tuple[int, ...] = ()) -> list[Face]:
    generator = np.random.default_rng(3)
    faces = [synthetic_face(60 + 4 * index, 90, 100, image_index=index) for index in range(frames) if index not in skip]
    return [replace(face, landmarks5=face.landmarks5 + jitter * generator.standard_normal((5, 2))) for face in faces]


def test_even_motion_is_not_changed_by_smoothing():
    given = moving(12)
    steady = steady_faces(given, [0], 12, (180, 240), TrackSettings(reach=0))
    for before, after in zip(given, steady, strict=True):
        assert np.allclose(before.landmarks5, after.landmarks5, atol=1e-9)


def test_smoothing_takes_out_half_of_the_jitter():
    true, given = moving(40), moving(40, jitter=1.0)
    steady = steady_faces(given, [0], 40, (180, 400), TrackSettings(reach=0))
    errors = [
        np.mean([np.square(a.landmarks5 - b.landmarks5).mean() for a, b in zip(true, run, strict=True)])
        for run in (given, steady)
    ]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(("max_gap", "filled"), [(3, True), (2, False)])
def test_a_gap_is_filled_up_to_its_limit_and_never_across_a_cut(max_gap: int, filled: bool):
    given, settings = moving(12, skip=(5, 6, 7)), TrackSettings(max_gap=max_gap, reach=0)
    frames = [face.image_index for face in steady_faces(given, [0], 12, (180, 240), settings)]
    assert (frames == list(range(12))) is filled
    across = [face.image_index for face in steady_faces(given, [0, 6], 12, (180, 240), settings)]
    assert across == [0, 1, 2, 3, 4, 8, 9, 10, 11]


def test_a_face_is_expected_a_little_before_and_after_it_is_seen_but_not_beyond_cut_or_picture():
    given = [face for face in moving(20) if 6 <= face.image_index <= 12]
    frames = [face.image_index for face in steady_faces(given, [0, 14], 20, (180, 240), TrackSettings(reach=3))]
    assert frames == list(range(3, 14))
    leaving = [synthetic_face(200 + 20 * index, 90, 100, image_index=index) for index in range(3)]
    assert len(steady_faces(leaving, [0], 9, (180, 240), TrackSettings(reach=3))) == 3


def test_movement_is_no_cut_and_another_room_is():
    finder = CutFinder()
    rooms = [np.roll(background(320, 180, 2), 6 * index, axis=1) for index in range(6)] + [background(320, 180, 8)] * 2
    assert [finder.is_cut(room) for room in rooms] == [False] * 6 + [True, False]


@pytest.mark.parametrize("wrong", [{"max_gap": -1}, {"reach": 101}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(InputError, match="Expected a gap"):
        TrackSettings(**wrong)
