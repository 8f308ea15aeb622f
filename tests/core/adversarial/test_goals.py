"""Goals: what counts as reached, who may be imitated, and what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.adversarial.goals import Dodge, Impersonate
from faceprivacy_core.adversarial.sight import Identities, check_target_faces, see_faces, see_sources, see_target, thresholds
from faceprivacy_core.errors import InputError, NoFaceError, UnsupportedModelError
from faceprivacy_core.types import Faces
from tests.core.adversarial.toys import RECOGNIZERS, scene
from tests.support.faces import one_face, synthetic_face
from tests.support.recognizer import ProjectionRecognizer

LIMITS = torch.tensor([0.3, 0.4])
FACES = torch.tensor([0, 1])


def directions(*degrees: float) -> Tensor:
    angles = torch.tensor(np.deg2rad(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


SOURCES = Identities((directions(0, 90), directions(0, 90)))
TARGET = Identities((directions(180), directions(180)))


def seen(*degrees: float) -> tuple[Tensor, Tensor]:
    return directions(*degrees), directions(*degrees)


def test_the_hinge_is_zero_exactly_when_the_goal_is_reached():
    goal = Dodge(SOURCES, LIMITS, margin=0.1)
    near, far = seen(60, 90 + 85), seen(80, 90 + 110)
    torch.testing.assert_close(goal.loss(near, FACES), torch.tensor([0.5 - 0.2 + 0.5 - 0.3, 0.0]))
    assert goal.is_reached(near, FACES).tolist() == [False, True]
    assert goal.loss(far, FACES).tolist() == [0.0, 0.0]
    assert goal.is_reached(far, FACES).tolist() == [True, True]
    torch.testing.assert_close(goal.similarities(near, FACES)[0], torch.tensor([0.5, 0.5]))


def test_without_hinge_every_similarity_counts_with_its_weight():
    goal = Dodge(SOURCES, LIMITS, weights=torch.tensor([2.0, 0.5]), hinge=False)
    torch.testing.assert_close(goal.loss(seen(60, 90 + 120), FACES), torch.tensor([1.25, -1.25]))


def test_some_faces_of_a_batch_are_compared_with_themselves():
    goal = Dodge(SOURCES, LIMITS)
    torch.testing.assert_close(goal.similarities(seen(90), torch.tensor([1])), torch.ones(1, 2))


def test_dodging_toward_somebody_rewards_resemblance():
    goal = Dodge(SOURCES, LIMITS, hinge=False, target=TARGET)
    loss = goal.loss(seen(120, 90 + 90), FACES)
    torch.testing.assert_close(loss, torch.tensor([-2.0, -2.0]))
    assert Dodge(SOURCES, LIMITS, target=TARGET).is_reached(seen(120, 180), FACES).tolist() == [True, True]


def test_impersonation_wants_an_acknowledgement():
    with pytest.raises(InputError, match="acknowledgement that the target person consents"):
        Impersonate(TARGET, LIMITS, sources=SOURCES)
    goal = Impersonate(TARGET, LIMITS, margin=0.1, sources=SOURCES, acknowledged=True)
    found = seen(120, 90)
    torch.testing.assert_close(goal.loss(found, FACES), torch.tensor([0.0, 0.9]))
    assert goal.is_reached(found, FACES).tolist() == [False, False]  # 0.5 is not above 0.4 + 0.1
    assert goal.is_reached(seen(170, 180), FACES).tolist() == [True, True]
    plain = Impersonate(TARGET, LIMITS, hinge=False, sources=SOURCES, acknowledged=True)
    torch.testing.assert_close(plain.loss(seen(180, 90), FACES), torch.tensor([0.0, 2.0]))


def test_a_target_that_is_the_source_is_refused():
    same = Identities((directions(20), directions(20)))
    with pytest.raises(InputError, match=r"target picture of another person.*0\.94"):
        Dodge(SOURCES, LIMITS, target=same)
    with pytest.raises(InputError, match="another person"):
        Impersonate(SOURCES, LIMITS, sources=SOURCES, acknowledged=True)
    with pytest.raises(InputError, match="one target identity, or one for each of 2"):
        Dodge(SOURCES, LIMITS, target=Identities((directions(1, 2, 3), directions(1, 2, 3))))


@pytest.mark.parametrize(
    "options",
    [
        {"thresholds": torch.ones(3)},
        {"weights": torch.ones(1)},
        {"weights": torch.zeros(2)},
        {"weights": torch.tensor([1.0, -1.0])},
        {"margin": -0.1},
        {"margin": 1.1},
    ],
)
def test_numbers_that_do_not_fit_are_refused(options: dict[str, object]):
    with pytest.raises(InputError, match="Expected"):
        Dodge(**({"sources": SOURCES, "thresholds": LIMITS} | options))


def test_a_target_picture_shows_one_person():
    check_target_faces(one_face())
    with pytest.raises(NoFaceError, match="found none"):
        check_target_faces(Faces((), 1, 200, 300))
    two = Faces((synthetic_face(80, 100, 90), synthetic_face(220, 100, 90)), 1, 200, 300)
    with pytest.raises(InputError, match="got 2 faces"):
        check_target_faces(two)
    with pytest.raises(InputError, match="got 2 faces"):
        see_target(RECOGNIZERS, torch.rand(1, 3, 200, 300), two)


def test_recognisers_are_needed_and_must_give_a_gradient():
    of = scene(2)
    assert [tuple(v.shape) for v in see_sources(RECOGNIZERS, of.originals, of.landmarks5).vectors] == [(2, 16), (2, 16)]
    with pytest.raises(InputError, match="at least one face recogniser"):
        see_sources((), of.originals, of.landmarks5)

    class Deaf(ProjectionRecognizer):
        def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
            return super().embed(images.detach(), landmarks5)

    with pytest.raises(UnsupportedModelError, match="got deaf, which gives none"):
        see_sources((RECOGNIZERS[0], Deaf("deaf")), of.originals, of.landmarks5)


def test_faces_of_whole_pictures_are_seen_in_order():
    images = torch.rand(2, 3, 200, 300)
    faces = Faces((synthetic_face(100, 100, 90), synthetic_face(100, 100, 90, image_index=1)), 2, 200, 300)
    found = see_faces(RECOGNIZERS, images, faces)
    expected = RECOGNIZERS[1].embed(images, torch.zeros(2, 5, 2))
    torch.testing.assert_close(found.vectors[1], expected)
    torch.testing.assert_close(found.vectors[0].norm(dim=1), torch.ones(2))
    torch.testing.assert_close(found.similarities(found.vectors), torch.ones(2, 2))
    assert F.cosine_similarity(*found.vectors[0], dim=0) < 1.0
    assert thresholds(RECOGNIZERS).tolist() == pytest.approx([0.3, 0.3])


def test_a_target_seen_inside_inference_mode_can_be_gone_toward():
    with torch.inference_mode():
        found = see_faces(RECOGNIZERS, torch.rand(1, 3, 200, 300), Faces((synthetic_face(100, 100, 90),), 1, 200, 300))
    assert not any(vectors.is_inference() for vectors in found.vectors)
