"""Face Tracks on the real host: one person has one number, and Anonymize Faces protects who was followed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs
from tests.support.host_scenes import PORTRAIT, open_photo

TRACKS, ANONYMIZE = "FacePrivacy_FaceTracks", "FacePrivacy_AnonymizeFaces"


@pytest.fixture(scope="module")
def frames(pack_nodes: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """Return three frames in which the two people of the sample move, the middle one without faces found, and the faces."""
    photo, faces, _ = open_photo(pack_nodes, SAMPLE_PHOTO)
    small = torch.nn.functional.interpolate(photo.permute(0, 3, 1, 2), size=(320, 512), mode="area").permute(0, 2, 3, 1)
    batch = torch.cat([small.roll(6 * index, dims=2) for index in range(3)])
    batch[1] = 0.5
    node = pack_nodes["FacePrivacy_FaceMask"]
    _, _, faces, _ = node.execute(image=batch, **(graphs.widget_defaults(node) | {"on_no_face": "pass"})).args
    batch[1] = small.roll(6, dims=2)[0]
    return batch, faces


def test_people_keep_their_number_and_gaps_are_filled(pack_nodes: dict[str, Any], frames: tuple[torch.Tensor, Any]) -> None:
    batch, faces = frames
    assert [len(faces.of_image(index)) for index in range(3)] == [2, 0, 2]
    followed, preview = pack_nodes[TRACKS].execute(batch, faces, 5, "all").args
    assert [[face.track for face in followed.of_image(index)] for index in range(3)] == [[0, 1]] * 3
    assert [face.image_index for face in followed.items if face.confidence == 0] == [1, 1]
    assert preview.shape == batch.shape
    alone, _ = pack_nodes[TRACKS].execute(batch, faces, 0, "all").args
    assert {face.image_index for face in alone.items} <= {0, 1, 2}
    portrait, _, _ = open_photo(pack_nodes, PORTRAIT)
    person = pack_nodes["FacePrivacy_SavePerson"].execute(portrait, "tracked").args[0]
    one, _ = pack_nodes[TRACKS].execute(batch, faces, 5, "only the people in the reference", person=person).args
    assert len({face.track for face in one.items}) == 1


def test_anonymize_faces_protects_who_was_followed(pack_nodes: dict[str, Any], frames: tuple[torch.Tensor, Any]) -> None:
    batch, faces = frames
    followed, _ = pack_nodes[TRACKS].execute(batch, faces, 5, "all").args
    node = pack_nodes[ANONYMIZE]
    given = graphs.widget_defaults(node) | {"method": "solid", "measure": False, "on_no_face": "pass"}
    image, mask, out, report, _ = node.execute(image=batch, tracks=followed, **given).args
    assert out is followed
    assert [entry["methods"] for entry in json.loads(report)["pictures"]] == [["solid", "solid"]] * 3
    for index in range(3):
        for face in followed.of_image(index):
            x, y = (round(float(value)) for value in face.landmarks5[2])
            assert mask[index, y, x] > 0
            assert torch.allclose(image[index, y, x], torch.full((3,), 0.5), atol=0.01)
    assert torch.equal(image[mask == 0], batch[mask == 0])


def test_faces_without_tracks_are_refused(pack_nodes: dict[str, Any], frames: tuple[torch.Tensor, Any]) -> None:
    batch, faces = frames
    node = pack_nodes[ANONYMIZE]
    given = graphs.widget_defaults(node) | {"method": "solid", "measure": False, "on_no_face": "pass"}
    with pytest.raises(Exception, match="as following them gave them"):
        node.execute(image=batch, tracks=faces, **given)
