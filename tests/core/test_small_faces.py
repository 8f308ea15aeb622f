"""Faces with too few pixels are refused or pixelated, and never pass as they are."""

import numpy as np
import pytest

from faceprivacy_core.errors import InputError
from faceprivacy_core.small_faces import BLOCKS, SmallFaces
from faceprivacy_core.types import Faces
from tests.support.faces import synthetic_face

PIXELS = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
LARGE, SMALL, AT_THE_EDGE = synthetic_face(80, 100, 120), synthetic_face(220, 60, 14), synthetic_face(299, 199, 12)
FACES = Faces((LARGE, SMALL, AT_THE_EDGE), 1, 200, 300)


def test_a_small_face_is_refused_with_what_to_say():
    with pytest.raises(InputError, match=r"2 smaller ones.*--blur-small"):
        SmallFaces().prepare(PIXELS, FACES)
    kept, replaced, pixels = SmallFaces().prepare(PIXELS, Faces((LARGE,), 1, 200, 300))
    assert kept.items == (LARGE,)
    assert not replaced.any()
    np.testing.assert_array_equal(pixels, PIXELS)


def test_small_faces_are_pixelated_and_the_rest_stays():
    before = PIXELS.copy()
    kept, replaced, pixels = SmallFaces(pixelate=True).prepare(PIXELS, FACES)
    np.testing.assert_array_equal(PIXELS, before)
    assert kept.items == (LARGE,)
    np.testing.assert_array_equal(pixels[replaced == 0], PIXELS[replaced == 0])
    for face in (SMALL, AT_THE_EDGE):
        for x, y in face.landmarks5.astype(int):
            if 0 <= x < 300 and 0 <= y < 200:
                assert replaced[y, x] == 1
    left, top, right, bottom = (int(value) for value in SMALL.bbox_xyxy)
    assert len(np.unique(pixels[top:bottom, left:right].reshape(-1, 3), axis=0)) <= BLOCKS**2


def test_the_least_size_decides():
    assert [SmallFaces(size).is_small(LARGE) for size in (0, 59, 61)] == [False, False, True]
    with pytest.raises(InputError, match="from 0 on"):
        SmallFaces(-1)
