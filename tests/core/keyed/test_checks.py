"""Covers are looked at with a real detector and real recognisers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES, load_ensemble
from faceprivacy_core.keyed.checks import CoverCheck

SAMPLES = Path(__file__).parents[3] / "docs" / "samples"

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    with Image.open(SAMPLES / "two_people.jpg") as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.fixture(scope="module")
def check() -> CoverCheck:
    return CoverCheck(load_detector(), load_ensemble(DEFAULT_SURROGATES))


def test_the_original_is_no_cover(picture: np.ndarray, check: CoverCheck):
    faces = check.detector.detect(picture)
    assert len(faces) == 2
    problems = check(picture, picture, faces)
    assert all(problem and "takes it for the original" in problem for problem in problems)


def test_somebody_else_is_one(picture: np.ndarray, check: CoverCheck):
    """Each half shows the other person, who was moved to the same place."""
    faces = check.detector.detect(picture)
    first, second = (np.round(face.landmarks5.mean(axis=0)).astype(int) for face in faces)
    swapped = picture.copy()
    reach = 130
    window = [slice(first[1] - reach, first[1] + reach), slice(first[0] - reach, first[0] + reach)]
    other = [slice(second[1] - reach, second[1] + reach), slice(second[0] - reach, second[0] + reach)]
    swapped[tuple(window)] = picture[tuple(other)]
    assert check(picture, swapped, [faces[0]]) == [None]


def test_a_place_without_a_face_is_none(picture: np.ndarray, check: CoverCheck):
    faces = check.detector.detect(picture)
    flat = np.full_like(picture, 128)
    assert check(picture, flat, faces) == ["no face is found in it"] * 2
    assert check(picture, flat, []) == []


def test_a_smeared_face_is_none(picture: np.ndarray, check: CoverCheck):
    """Without recognisers, so that only its looks count."""
    faces = check.detector.detect(picture)
    looks = CoverCheck(check.detector)
    smeared = cv2.GaussianBlur(picture, (0, 0), 16)
    assert looks(picture, picture, faces) == [None, None]
    assert all(
        problem in ("the face in it is indistinct", "no face is found in it") for problem in looks(picture, smeared, faces)
    )
