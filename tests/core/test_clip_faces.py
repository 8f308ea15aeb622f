"""New faces through a clip: bending, choosing views, and what stands in a frame when there is no new face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from faceprivacy_core.align import FFHQ_TEMPLATE
from faceprivacy_core.anonymize import AnonymizeSettings
from faceprivacy_core.clips.bending import bend
from faceprivacy_core.clips.dressing import Dresser
from faceprivacy_core.clips.looks import NewLook, draw_look
from faceprivacy_core.clips.views import MAX_VIEWS, SAMPLES, View, Views, best_views
from faceprivacy_core.errors import InputError, NumericalError
from faceprivacy_core.masks import MaskSettings, Region, draw_masks
from faceprivacy_core.pixels import to_pixels
from faceprivacy_core.protect import DrawingTools, Fallback, Method, ProtectSettings
from faceprivacy_core.types import Face, Faces, Picture
from tests.support.faces import synthetic_face
from tests.support.pictures import HEIGHT, WIDTH, pictures
from tests.support.recognizer import ProjectionRecognizer

INNER, WIDE = MaskSettings(Region.INNER_FACE), MaskSettings(Region.FACE)


def recognizer(threshold: float) -> ProjectionRecognizer:
    made = ProjectionRecognizer()
    made.thresholds = dict.fromkeys(made.thresholds, threshold)
    return made


NOBODY, EVERYBODY = recognizer(2.0), recognizer(-1.0)
"""A recogniser that knows nobody, and one that knows everybody."""


def picture() -> Picture:
    return to_pixels(pictures(1))


def face(x: float = 80.0, *, track: int = 0, seen: bool = True, size: float = 130.0) -> Face:
    return replace(synthetic_face(x, 90, size), track=track, confidence=0.9 if seen else 0.0)


def masks() -> torch.Tensor:
    """Return the inner face and the whole one of an aligned crop, (2, 1, 64, 64)."""
    aligned = Face(0, (0.0, 0.0, 64.0, 64.0), FFHQ_TEMPLATE * 64 - 0.5, 1.0)
    return torch.stack([draw_masks(Faces((aligned,), 1, 64, 64), one) for one in (INNER, WIDE)])


def look(colour: float) -> NewLook:
    generator = torch.Generator().manual_seed(1)
    faces = (colour + 0.1 * torch.rand(1, 3, 64, 64, generator=generator)).clamp(0, 1)
    return NewLook(faces, FFHQ_TEMPLATE[None], masks())


def test_landmarks_are_bent_to_where_they_shall_lie_and_the_rim_stays():
    image = torch.zeros(3, 128, 128)
    spots = np.round(FFHQ_TEMPLATE * 128 - 0.5).astype(int)
    for x, y in spots:
        image[:, y - 1 : y + 2, x - 1 : x + 2] = 1.0
    image[:, :2] = 0.5
    moves = np.array([[0.02, 0.0], [0.02, 0.0], [0.05, 0.01], [0.0, 0.02], [0.0, 0.02]])
    bent = bend(image, FFHQ_TEMPLATE, FFHQ_TEMPLATE + moves)
    for (x, y), move in zip(spots, moves, strict=True):
        far = np.round(move * 128).astype(int)
        part = bent[0, y + far[1] - 4 : y + far[1] + 5, x + far[0] - 4 : x + far[0] + 5]
        peak = np.unravel_index(int(part.argmax()), part.shape)
        assert np.hypot(peak[0] - 4, peak[1] - 4) < 2.5
    assert torch.allclose(bent[:, 0], torch.full((3, 128), 0.5), atol=0.02)
    assert torch.equal(bend(image, FFHQ_TEMPLATE, FFHQ_TEMPLATE), image)


def test_views_are_few_clear_and_of_different_poses():
    views = Views(64)
    for index in range(40):
        turned = face(60 + index)
        points = turned.landmarks5.copy()
        points[2, 0] += 12.0 if index % 2 else 0.0  # the nose of a turned head
        views.add(0, picture(), replace(turned, landmarks5=points, confidence=0.5 + 0.01 * index, image_index=index))
    kept = views.of([0])
    assert [view.frame % 2 for view in kept] == [0, 1]
    assert kept[0].frame > 20, "later views are surer here"
    samples = views.samples_of([0])
    assert SAMPLES <= len(samples) <= 2 * SAMPLES
    assert samples[-1].frame - samples[0].frame > 20
    assert views.of([7]) == []


def test_views_of_one_pose_are_one_and_their_number_is_bounded():
    crop = np.zeros((64, 64, 3), np.uint8)
    poses = [FFHQ_TEMPLATE * 64 + (0.0, 0.0)] * 3
    poses += [FFHQ_TEMPLATE * 64 + np.outer([0, 0, 1, 0, 0], [4.0 * step, 0.0]) for step in range(1, 9)]
    chosen = best_views([View(crop, pose, 1.0 + index, index) for index, pose in enumerate(poses)])
    assert chosen[0].frame == len(poses) - 1
    assert len(chosen) == MAX_VIEWS
    assert len(best_views([View(crop, pose, 1.0, index) for index, pose in enumerate(poses[:3])])) == 1


def test_a_person_has_one_face_in_every_place_and_nothing_else_changes():
    dresser = Dresser({0: look(0.2)}, [NOBODY], ProtectSettings())
    middles = []
    for x in (70.0, 110.0, 150.0):
        given, here = picture(), face(x)
        dressed = dresser.dress(given, [here])
        assert dressed.methods == ("new face",)
        mask = draw_masks(Faces((here,), 1, HEIGHT, WIDTH), INNER)[0].numpy()
        assert np.array_equal(dressed.picture[dressed.mask == 0], given[dressed.mask == 0])
        assert np.abs(dressed.mask - mask).mean() < 0.01, "the mask lies where the face is"
        middles.append(dressed.picture[90, int(x)].astype(int))
        assert np.abs(middles[-1] - given[90, int(x)]).max() > 5
    assert np.array_equal(picture(), picture())


def test_who_is_still_known_is_drawn_wider_for_good_and_then_hidden():
    class Twice(ProjectionRecognizer):
        """Knows everybody the first two times it is asked about a drawn face."""

        asked = 0

        def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            return torch.ones(len(images), 4) / 2 * (1.0 if self.asked <= 2 or self.asked % 2 else -1.0)

    twice = Twice()
    dresser = Dresser({0: look(0.2)}, [twice], ProtectSettings())
    masks = [dresser.dress(picture(), [face()]).mask for _ in range(2)]
    wide = draw_masks(Faces((face(),), 1, HEIGHT, WIDTH), WIDE)[0].numpy()
    assert np.abs(masks[0] - wide).mean() < 0.01
    assert np.array_equal(masks[1], masks[0]), "the mask must not go back to the smaller one"
    hidden = Dresser({0: look(0.2)}, [EVERYBODY], ProtectSettings()).dress(picture(), [face()])
    assert hidden.methods == ("blur",)
    with pytest.raises(NumericalError, match="person 0"):
        Dresser({0: look(0.2)}, [EVERYBODY], ProtectSettings(fallback=Fallback.ERROR)).dress(picture(), [face()])


@pytest.mark.parametrize(
    ("here", "fill", "method"),
    [
        (face(track=5), True, "blur"),
        (face(size=20), True, "blur"),
        (face(seen=False), True, "new face"),
        (face(seen=False), False, "blur"),
    ],
    ids=["no look", "too small", "filled in", "not to be filled in"],
)
def test_what_cannot_be_drawn_is_hidden(here: Face, fill: bool, method: str):
    dressed = Dresser({0: look(0.2)}, [NOBODY], ProtectSettings(), fill=fill).dress(picture(), [here])
    assert dressed.methods == (method,)
    x, y = here.landmarks5[2].round().astype(int)
    assert dressed.mask[y, x] > 0


def test_who_was_not_seen_is_behind_who_is_and_hides_no_seen_face():
    front, behind = face(110, track=0), face(130, track=1, seen=False)
    settings = ProtectSettings(fallback=Fallback.SOLID)
    looks = {0: look(0.2), 1: look(0.8)}
    alone = Dresser({0: looks[0]}, [NOBODY], settings).dress(picture(), [front])
    both = Dresser(looks, [NOBODY], settings).dress(picture(), [front, behind])
    inner = draw_masks(Faces((front,), 1, HEIGHT, WIDTH), INNER)[0].numpy() == 1
    assert np.abs(both.picture[inner].astype(int) - alone.picture[inner]).max() < 8, (
        "sharpness is compared with what lies below"
    )
    assert both.mask[90, 165] > 0, "what is seen of the other one is protected"
    solid = Dresser({0: looks[0]}, [NOBODY], settings).dress(picture(), [front, behind])
    assert np.abs(solid.picture[inner].astype(int) - alone.picture[inner]).max() < 8
    assert solid.methods == ("new face", "solid")


@pytest.mark.parametrize("method", [Method.BLUR, Method.MOSAIC, Method.SOLID])
def test_other_methods_need_no_look_and_no_recogniser(method: Method):
    dressed = Dresser({}, [], ProtectSettings(method)).dress(picture(), [face(), face(170, track=1)])
    assert dressed.methods == (method.value,) * 2
    assert (dressed.picture != picture()).any()
    nobody = Dresser({}, [], ProtectSettings(method)).dress(picture(), [])
    assert np.array_equal(nobody.picture, picture())


def test_a_look_of_the_persons_own_is_refused_and_without_a_view_there_is_none():
    tools = DrawingTools(None, [NOBODY], None)  # never used
    with pytest.raises(InputError, match="--look donor"):
        draw_look([], 0, tools, AnonymizeSettings.published())
    assert draw_look([], 0, tools, AnonymizeSettings()) is None
