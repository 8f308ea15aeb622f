"""The gentle push: no more than recognisers want, nothing where nobody knows the person, and none that stays known."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.donors import Person, see_person
from faceprivacy_core.gentle_push import FIDELITY, MARGIN, lead_away, push_gently
from faceprivacy_core.images import crop_faces, crop_landmarks
from tests.support.pictures import faces_in, pictures
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
LIMIT = RECOGNIZERS[0].thresholds[0.01] - MARGIN

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def known_as(similarity: float) -> tuple[torch.Tensor, torch.Tensor, Person]:
    """A drawn face, a mask, and a person to whom it is so similar."""
    originals, crops = crop_faces(pictures(1), faces_in(1), 256)
    points = crop_landmarks(crops)
    seen = [recognizer.embed(originals, points) for recognizer in RECOGNIZERS]
    generator = torch.Generator().manual_seed(5)
    vectors = []
    for own in seen:
        other = torch.randn(own.shape, generator=generator, dtype=own.dtype)
        other = F.normalize(other - (other * own).sum(1, keepdim=True) * own, dim=1)
        vectors.append(similarity * own + (1.0 - similarity**2) ** 0.5 * other)
    person = see_person(originals, points, RECOGNIZERS, torch.zeros(1, 1, 1, 1))
    mask = torch.zeros(1, 1, 256, 256)
    mask[:, :, 64:220, 64:192] = 1.0
    return originals, mask, replace(person, vectors=tuple(vectors))


def similarities(drawn: torch.Tensor, person: Person) -> torch.Tensor:
    seen = [recognizer.embed(drawn, person.landmarks5) for recognizer in RECOGNIZERS]
    return torch.stack([(a * b).sum(1) for a, b in zip(seen, person.vectors, strict=True)])


def test_nothing_is_added_where_nobody_takes_the_face_for_the_person(model: FaceModel):
    drawn, mask, person = known_as(LIMIT - 0.05)
    assert torch.equal(push_gently(drawn, mask, person, model, 1), torch.zeros_like(drawn))
    assert torch.equal(lead_away(drawn[0], person, mask, model, 1), drawn[0])


def test_a_face_is_led_to_where_strangers_are_and_hardly_further(model: FaceModel):
    drawn, mask, person = known_as(LIMIT + 0.01)
    change = push_gently(drawn, mask, person, model, 1)
    led = (drawn + mask * change).clamp(0.0, 1.0)
    after = similarities(led, person)
    assert float(after.max()) < LIMIT
    assert float(after.max()) > LIMIT - 0.05, "no further than asked"
    assert float(-10.0 * (mask * change).square().mean().log10()) > FIDELITY
    assert torch.equal(push_gently(drawn, mask, person, model, 1), change)


def test_a_face_that_cannot_be_led_so_far_is_none(model: FaceModel):
    drawn, mask, person = known_as(0.9)
    assert lead_away(drawn[0], person, mask, model, 1) is None
