"""Faces from masks, boxes and SEGS: each is a face, none is left out, and Anonymize Faces protects it."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs
from tests.support.host_scenes import open_photo

NODE, ANONYMIZE = "FacePrivacy_FacesFromBoxes", "FacePrivacy_AnonymizeFaces"
Segment = namedtuple("Segment", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper")
CORNER = {"x": 10, "y": 500, "width": 60, "height": 80}
"""A box where the sample photo shows a flower pot."""


@pytest.fixture(scope="module")
def scene(pack_nodes: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """The sample photo of two people, and its faces."""
    photo, faces, _ = open_photo(pack_nodes, SAMPLE_PHOTO)
    return photo, faces


@pytest.fixture
def run(pack_nodes: dict[str, Any], scene: tuple[torch.Tensor, Any]) -> Any:
    def execute(**given: Any) -> Any:
        return pack_nodes[NODE].execute(**{"image": scene[0], "region": "inner face", "on_no_face": "error"} | given).args

    return execute


def _box(face: Any) -> dict[str, float]:
    left, top, right, bottom = face.bbox_xyxy
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, "label": "face", "score": 0.9}


def _segs(*faces: Any, shape: tuple[int, int]) -> tuple[Any, list[Segment]]:
    return shape, [Segment(None, None, 0.9, None, face.bbox_xyxy, "face", None) for face in faces]


@pytest.mark.weights
def test_mask_boxes_and_segs_of_the_same_faces_give_the_same_faces(run: Any, scene: tuple[torch.Tensor, Any]) -> None:
    photo, faces = scene
    mask = torch.zeros(1, *photo.shape[1:3])
    for face in faces.items:
        left, top, right, bottom = (round(value) for value in face.bbox_xyxy)
        mask[:, top:bottom, left:right] = 1
    given = [
        {"marked": mask},
        {"boxes": [[_box(face) for face in faces.items]]},
        {"boxes": [_box(face) for face in faces.items]},
        {"segs": _segs(*faces.items, shape=tuple(photo.shape[1:3]))},
    ]
    for kind in given:
        image, soft, found, preview, missed = run(**kind)
        assert torch.equal(image, photo)
        assert [face.confidence > 0.5 for face in found.items] == [True, True]
        for face, known in zip(found.items, faces.items, strict=True):
            assert abs(face.landmarks5 - known.landmarks5).max() < 8
            x, y = (round(float(value)) for value in face.landmarks5[2])
            assert soft[0, y, x] == missed[0, y, x] == 1
        assert preview.shape == photo.shape


@pytest.mark.weights
def test_a_face_is_not_doubled_and_a_box_without_one_is_hidden(
    run: Any, scene: tuple[torch.Tensor, Any], pack_nodes: dict[str, Any]
) -> None:
    photo, faces = scene
    _, _, found, _, missed = run(faces=faces, boxes=[_box(faces.items[0]), CORNER])
    assert len(found) == 3
    (guessed,) = [face for face in found.items if face.confidence == 0]
    assert guessed.bbox_xyxy == (10, 500, 70, 580)
    node = pack_nodes[ANONYMIZE]
    given = graphs.widget_defaults(node) | {"method": "solid", "measure": False}
    image, mask, protected, _, _ = node.execute(image=photo, missed=missed, **given).args
    assert len(protected) == 3
    assert mask[0, 540, 40] > 0
    assert not torch.equal(image[0, 540, 40], photo[0, 540, 40])


@pytest.mark.weights
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "found none that was chosen"),
        ({"boxes": [CORNER | {"x": 2000}]}, "inside the picture of 1024 x 640"),
        ({"boxes": CORNER | {"width": float("nan")}}, "at least 8 x 8"),
        ({"boxes": [{"x": 1}]}, "x, y, width and height"),
        ({"boxes": [[CORNER], [CORNER]]}, "for 1 pictures, got them for 2"),
        ({"segs": ((10, 10), [])}, "SEGS of one picture of 1024 x 640"),
        ({"segs": "face"}, "as the Impact Pack gives them"),
    ],
)
def test_what_is_no_face_of_this_picture_is_an_error(run: Any, core: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(core("faceprivacy_core.errors").FacePrivacyError, match=message):
        run(**given)
