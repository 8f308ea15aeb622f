"""Choosing faces: numbering, counts, and people by reference photo."""

import numpy as np
import pytest
import torch

from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.faces.people import People, learn_people
from faceprivacy_core.faces.select import Order, Selection, Which, detect_faces, order_faces, parse_numbers
from faceprivacy_core.types import Face
from tests.support.faces import synthetic_face


class ListedDetector:
    """Finds the faces it was told about: one for every bright column of its table."""

    name = "listed"

    def __init__(self, faces: list[Face]) -> None:
        self.faces = faces

    def detect(self, image: np.ndarray) -> list[Face]:
        return [face for face in self.faces if image[int(face.landmarks5[2, 1]), int(face.landmarks5[2, 0])].any()]


class ColourRecognizer:
    """Takes the colour at the nose for the identity."""

    name, family, licence = "colour", "toy", "none"

    def __init__(self, threshold: float = 0.99, spare_threshold: float | None = None) -> None:
        self.thresholds = {0.01: threshold - 0.01, 0.001: threshold}
        self.spare_thresholds = self.thresholds if spare_threshold is None else {0.001: spare_threshold}

    def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
        at = landmarks5[:, 2].long()
        colours = torch.stack([image[:, y, x] for image, (x, y) in zip(images, at.tolist(), strict=True)])
        return torch.nn.functional.normalize(colours, dim=1)


FACES = [synthetic_face(60, 120, 80), synthetic_face(160, 60, 100), synthetic_face(250, 140, 60)]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(*colours: tuple[int, int, int]) -> np.ndarray:
    image = np.zeros((200, 300, 3), np.uint8)
    for face, colour in zip(FACES, colours, strict=False):
        x, y = face.landmarks5[2].astype(int)
        image[y - 5 : y + 6, x - 5 : x + 6] = colour
    return image


def chosen(which: Which, *images: np.ndarray, **kwargs: object) -> list[tuple[int, float]]:
    selection = Selection(which, kwargs.pop("order", Order.LEFT_TO_RIGHT), kwargs.pop("numbers", ()))
    faces = detect_faces(list(images), ListedDetector(FACES), selection, **kwargs)
    assert faces.num_images == len(images)
    return [(face.image_index, face.bbox_xyxy[0]) for face in faces.items]


LEFTS = [face.bbox_xyxy[0] for face in FACES]


def test_all_faces_of_every_image_are_chosen_and_an_image_may_have_none():
    assert chosen(Which.ALL, picture(RED, GREEN, BLUE), picture(), picture(RED)) == [
        *((0, left) for left in LEFTS),
        (2, LEFTS[0]),
    ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [(Order.LEFT_TO_RIGHT, [0, 1, 2]), (Order.TOP_TO_BOTTOM, [1, 0, 2]), (Order.LARGEST_FIRST, [1, 0, 2])],
)
def test_faces_are_numbered_in_the_order_asked_for(order: Order, expected: list[int]):
    assert order_faces(list(reversed(FACES)), order) == [FACES[i] for i in expected]


def test_the_largest_face_of_each_image_is_one():
    assert chosen(Which.LARGEST, picture(RED, GREEN, BLUE), picture(RED)) == [(0, LEFTS[1]), (1, LEFTS[0])]


def test_numbers_choose_faces_and_a_number_that_no_image_has_is_refused():
    assert chosen(Which.BY_NUMBER, picture(RED, GREEN, BLUE), numbers=(2, 0)) == [(0, LEFTS[2]), (0, LEFTS[0])]
    with pytest.raises(InputError, match="numbered preview"):
        chosen(Which.BY_NUMBER, picture(RED, GREEN, BLUE), numbers=(3,))


def test_only_the_people_in_the_reference():
    people = {"references": [picture(GREEN)], "recognizers": [ColourRecognizer()]}
    assert chosen(Which.ONLY_REFERENCE, picture(RED, GREEN, BLUE), **people) == [(0, LEFTS[1])]


def test_all_but_the_people_in_the_reference():
    people = {"references": [picture(GREEN)], "recognizers": [ColourRecognizer()]}
    assert chosen(Which.EXCEPT_REFERENCE, picture(RED, GREEN, BLUE), **people) == [(0, LEFTS[0]), (0, LEFTS[2])]


def test_in_doubt_a_face_is_chosen_under_both_rules():
    """One recogniser says yes to everybody, the other only to the person."""
    people = {"references": [picture(GREEN)], "recognizers": [ColourRecognizer(-1.0), ColourRecognizer()]}
    assert len(chosen(Which.ONLY_REFERENCE, picture(RED, GREEN, BLUE), **people)) == 3
    assert chosen(Which.EXCEPT_REFERENCE, picture(RED, GREEN, BLUE), **people) == [(0, LEFTS[0]), (0, LEFTS[2])]


def test_sparing_a_face_takes_a_surer_match_than_choosing_it():
    """Somebody of nearly the person's colour is chosen by both rules."""
    people = {"references": [picture(GREEN)], "recognizers": [ColourRecognizer(0.9, spare_threshold=0.99)]}
    nearly = picture((100, 255, 0), GREEN)
    assert chosen(Which.ONLY_REFERENCE, nearly, **people) == [(0, LEFTS[0]), (0, LEFTS[1])]
    assert chosen(Which.EXCEPT_REFERENCE, nearly, **people) == [(0, LEFTS[0])]


def test_a_reference_rule_needs_a_reference_with_a_face_and_a_recogniser():
    with pytest.raises(InputError, match="reference picture or a saved person, and recognisers"):
        chosen(Which.ONLY_REFERENCE, picture(RED))
    with pytest.raises(NoFaceError, match="reference picture 0"):
        chosen(Which.ONLY_REFERENCE, picture(RED), references=[picture()], recognizers=[ColourRecognizer()])


def test_a_saved_person_is_meant_as_the_photo_is_and_besides_it():
    recognizers = [ColourRecognizer()]
    saved = [learn_people([picture(colour)], ListedDetector(FACES), recognizers) for colour in (GREEN, BLUE)]
    everybody, rest = picture(RED, GREEN, BLUE), {"recognizers": recognizers, "people": saved[:1]}
    for which in (Which.ONLY_REFERENCE, Which.EXCEPT_REFERENCE):
        by_photo = chosen(which, everybody, references=[picture(GREEN)], recognizers=recognizers)
        assert chosen(which, everybody, **rest) == by_photo
    only, left = Which.ONLY_REFERENCE, (0, LEFTS[0])
    assert chosen(only, everybody, references=[picture(RED)], **rest) == [left, (0, LEFTS[1])]
    assert chosen(Which.EXCEPT_REFERENCE, everybody, recognizers=recognizers, people=saved) == [left]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"another": torch.eye(3)}, "that colour has seen, got one of another"),
        ({"colour": torch.eye(4)}, "vectors of 3 numbers, the saved person has 4"),
    ],
)
def test_people_that_a_recogniser_cannot_compare_are_refused(vectors: dict[str, torch.Tensor], message: str):
    with pytest.raises(InputError, match=message):
        chosen(Which.ONLY_REFERENCE, picture(RED), recognizers=[ColourRecognizer()], people=[People(vectors)])


@pytest.mark.parametrize(("text", "numbers"), [("", ()), ("0, 2", (0, 2)), ("1,1", (1,)), (" 3 ,", (3,))])
def test_numbers_are_read_from_text(text: str, numbers: tuple[int, ...]):
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["one", "-1", "0.5", "1;2"])
def test_text_that_is_no_list_of_numbers_is_refused(text: str):
    with pytest.raises(InputError, match="separated by commas"):
        parse_numbers(text)


def test_by_number_without_a_number_is_refused():
    with pytest.raises(InputError, match="at least one face number"):
        Selection(Which.BY_NUMBER)
