"""Faces that somebody painted over are faces, found or guessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.cloak import CloakSettings, cloak_faces
from faceprivacy_core.errors import InputError
from faceprivacy_core.faces.by_hand import LAYOUT, add_faces_in_boxes, add_painted_faces, is_guessed, patches
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.select import Selection, detect_faces
from faceprivacy_core.metrics.draw import summarize
from faceprivacy_core.metrics.report import compute_report
from faceprivacy_core.protect import DrawingTools, Fallback, ProtectSettings, protect_faces
from faceprivacy_core.types import Face, Faces
from tests.support.faces import synthetic_face
from tests.support.recognizer import ProjectionRecognizer

PORTRAIT = Path(__file__).parents[2] / "docs" / "samples" / "portrait.jpg"
HEIGHT, WIDTH = 120, 200
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
NONE = Faces((), 1, HEIGHT, WIDTH)


class Blind:
    """A detector that finds nothing."""

    name, licence = "blind", "none"

    def detect(self, image: np.ndarray) -> Sequence[Face]:
        return []


def painted(*boxes: tuple[int, int, int, int], height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    for left, top, right, bottom in boxes:
        mask[..., top:bottom, left:right] = 1.0
    return mask


def test_every_patch_is_one_face_and_slips_of_the_brush_are_none():
    boxes = patches(painted((10, 20, 50, 80), (100, 10, 140, 60), (190, 0, 193, 3))[0, 0].numpy())
    assert sorted(boxes) == [(10, 20, 50, 80), (100, 10, 140, 60)]
    faces = add_painted_faces(NONE, [GREY], painted((100, 10, 140, 60), (10, 20, 50, 80)), Blind())
    assert [face.bbox_xyxy[0] for face in faces.items] == [10, 100]
    assert all(is_guessed(face) for face in faces.items)
    np.testing.assert_allclose(faces.items[0].landmarks5[2], [10 + 40 * LAYOUT[2][0], 20 + 60 * LAYOUT[2][1]])


def test_a_face_that_was_chosen_is_not_doubled():
    known = synthetic_face(60, 60, 50)
    found = Faces((known,), 1, HEIGHT, WIDTH)
    over = tuple(round(value) for value in known.bbox_xyxy)
    both = add_painted_faces(found, [GREY], painted(over, (140, 20, 180, 70)), Blind())
    assert len(both) == 2
    assert both.items[0] is known or both.items[0].bbox_xyxy == known.bbox_xyxy


def test_a_box_is_what_a_patch_of_its_size_is_and_boxes_may_touch():
    boxes = [(10.0, 20.0, 50.0, 80.0), (50.0, 20.0, 90.0, 80.0)]
    faces = add_faces_in_boxes(NONE, [GREY], [boxes], Blind())
    assert [face.bbox_xyxy for face in faces.items] == boxes
    patch = add_painted_faces(NONE, [GREY], painted((10, 20, 50, 80)), Blind())
    np.testing.assert_array_equal(faces.items[0].landmarks5, patch.items[0].landmarks5)
    assert len(add_faces_in_boxes(faces, [GREY], [boxes], Blind())) == 2


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[], []], "for 1 pictures, got them for 2"),
        ([[(190.0, 0.0, 260.0, 7.0)]], "at least 8 x 8 pixels inside the picture of 200 x 120"),
        ([[(300.0, 0.0, 360.0, 70.0)]], "inside the picture"),
        ([[(0.0, 0.0, float("nan"), 70.0)]], "at least 8 x 8"),
    ],
)
def test_no_box_is_left_out(boxes: list[list[tuple[float, float, float, float]]], message: str):
    with pytest.raises(InputError, match=message):
        add_faces_in_boxes(NONE, [GREY], boxes, Blind())


def test_nothing_painted_changes_nothing_at_any_size_and_another_size_is_refused():
    assert add_painted_faces(NONE, [GREY], torch.zeros(1, 1, 64, 64), Blind()) is NONE
    with pytest.raises(InputError, match="200 x 120, got 64 x 64"):
        add_painted_faces(NONE, [GREY], torch.ones(1, 1, 64, 64), Blind())


def test_each_picture_of_a_batch_has_its_own_patches():
    masks = torch.cat([painted((10, 20, 50, 80)), painted((100, 10, 140, 60))])
    faces = add_painted_faces(Faces((), 2, HEIGHT, WIDTH), [GREY, GREY], masks, Blind())
    assert [face.image_index for face in faces.items] == [0, 1]


def test_a_real_face_under_the_paint_gives_its_own_landmarks():
    with Image.open(PORTRAIT) as opened:
        picture = np.asarray(opened.convert("RGB"))
    height, width = picture.shape[:2]
    (face,) = detect_faces([picture], load_detector(), Selection()).items[:1]
    left, top, right, bottom = (round(value) for value in face.bbox_xyxy)
    mask = painted((left - 5, top + 5, right + 8, bottom), height=height, width=width)
    (found,) = add_painted_faces(Faces((), 1, height, width), [picture], mask, load_detector(min_confidence=0.2)).items
    assert not is_guessed(found)
    assert np.abs(found.landmarks5 - face.landmarks5).max() < 0.06 * face.width


def test_a_guessed_face_is_never_called_unrecognised():
    guessed = add_painted_faces(NONE, [GREY], painted((60, 20, 120, 100)), Blind()).items
    report = compute_report(
        GREY, GREY // 2, Blind(), (ProjectionRecognizer(),), seen=(), mask=None, perceptual=None, faces=guessed
    )  # fmt: skip
    assert report.faces == ()
    assert report.to_json_dict()["not_compared"] == 1
    assert "could not be compared" in summarize(report)
    assert "recognised by" not in summarize(report)


def test_a_guessed_face_is_hidden_and_never_drawn_or_cloaked():
    """Nobody could check a new face, or whether recognisers still know a cloaked one."""
    faces = add_painted_faces(NONE, [GREY], painted((60, 20, 120, 100)), Blind())
    images = torch.full((1, 3, HEIGHT, WIDTH), 0.5)

    def never() -> DrawingTools:
        pytest.fail("Nothing may be drawn here.")

    assert protect_faces(images, faces, ProtectSettings(), never).methods == ("blur",)
    with pytest.raises(InputError, match="painted by hand"):
        protect_faces(images, faces, ProtectSettings(fallback=Fallback.ERROR), never)
    with pytest.raises(InputError, match="painted by hand"):
        cloak_faces(images, faces, load_face_model(), (ProjectionRecognizer(),), CloakSettings())
