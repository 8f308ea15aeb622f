"""One step from pictures to protected pictures: every face is replaced, one way or the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faceprivacy_core import auditions, protect
from faceprivacy_core.anonymize import AnonymizeSettings, Look
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.candidates import Verdict
from faceprivacy_core.errors import InputError, NumericalError
from faceprivacy_core.protect import DrawingTools, Fallback, Method, ProtectSettings, protect_faces
from faceprivacy_core.types import Face, Faces
from tests.support.faces import synthetic_face
from tests.support.pictures import HEIGHT, WIDTH, faces_in, pictures
from tests.support.recognizer import ProjectionRecognizer

DRAWING = AnonymizeSettings.published(steps=3)
LARGE, SMALL = synthetic_face(70, 90, 120), synthetic_face(190, 90, 24)
BOTH = Faces((LARGE, SMALL), 1, HEIGHT, WIDTH)
Tools = Callable[[], DrawingTools]


class Blind:
    """A detector that finds no face."""

    name = "blind"
    licence = "none"

    def detect(self, image: np.ndarray) -> Sequence[Face]:
        return []


def recognizer(threshold: float) -> ProjectionRecognizer:
    made = ProjectionRecognizer()
    made.thresholds = dict.fromkeys(made.thresholds, threshold)
    return made


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


@pytest.fixture
def kind_tools(model: FaceModel) -> Tools:
    """A recogniser that knows nobody: every new face is accepted."""
    return lambda: DrawingTools(model, (recognizer(2.0),), Blind())


@pytest.fixture
def strict_tools(model: FaceModel) -> Tools:
    """A recogniser that knows everybody: no new face is accepted."""
    return lambda: DrawingTools(model, (recognizer(-1.0),), Blind())


def never() -> DrawingTools:
    pytest.fail("Nothing is drawn here, so nothing may be loaded.")


def test_a_large_face_is_drawn_and_a_small_one_falls_back(kind_tools: Tools):
    result = protect_faces(pictures(1), BOTH, ProtectSettings(drawing=DRAWING), kind_tools)
    assert result.methods == ("new face", "blur")
    changed = (result.images != pictures(1)).any(dim=1)[0]
    assert bool(changed[80:100, 60:80].any())
    assert bool(changed[88:92, 188:192].any())


def test_nothing_outside_the_mask_changes(kind_tools: Tools):
    result = protect_faces(pictures(1), BOTH, ProtectSettings(drawing=DRAWING), kind_tools)
    outside = (result.mask == 0).expand_as(result.images)
    assert torch.equal(result.images[outside], pictures(1)[outside])


@pytest.mark.parametrize("fallback", [Fallback.BLUR, Fallback.MOSAIC, Fallback.SOLID])
def test_a_new_face_that_is_still_recognised_is_hidden_as_the_method_alone_would(strict_tools: Tools, fallback: Fallback):
    settings = ProtectSettings(fallback=fallback, drawing=DRAWING)
    result = protect_faces(pictures(1), faces_in(1), settings, strict_tools)
    assert result.methods == (fallback.value,)
    alone = protect_faces(pictures(1), faces_in(1), replace(settings, method=Method(fallback.value)), never)
    hidden = (alone.mask > 0).expand_as(alone.images)
    assert torch.equal(result.images[hidden], alone.images[hidden])


def test_without_a_fallback_neither_kind_of_face_gets_through(strict_tools: Tools, kind_tools: Tools):
    settings = ProtectSettings(fallback=Fallback.ERROR, drawing=DRAWING)
    with pytest.raises(NumericalError, match=r"1 of 1 that one does \(faces \[0\]\)"):
        protect_faces(pictures(1), faces_in(1), settings, strict_tools)
    with pytest.raises(InputError, match="for face 1"):
        protect_faces(pictures(1), BOTH, settings, kind_tools)


def test_faces_that_cannot_be_drawn_are_hidden_or_the_error_is_raised(
    kind_tools: Tools, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise NumericalError("not a number")

    for name in ("anonymize_faces", "anonymize_where_possible"):
        monkeypatch.setattr(protect, name, fail)
    assert protect_faces(pictures(1), BOTH, ProtectSettings(drawing=DRAWING), kind_tools).methods == ("blur", "blur")
    with pytest.raises(NumericalError, match="not a number"):
        protect_faces(pictures(1), faces_in(1), ProtectSettings(fallback=Fallback.ERROR, drawing=DRAWING), kind_tools)


def test_one_face_without_a_new_one_is_hidden_and_the_others_are_drawn(kind_tools: Tools, monkeypatch: pytest.MonkeyPatch):
    """The second face's candidates all fail; nothing of it may stay, and the first keeps its new face."""
    real = auditions.judge

    def second_fails(candidates: Tensor, landmarks5: Tensor, *given: Any) -> Verdict:
        verdict = real(candidates, landmarks5, *given)
        fails = torch.arange(len(candidates)) % len(landmarks5) == 1
        return replace(verdict, passed=~fails)

    monkeypatch.setattr(auditions, "judge", second_fails)
    drawing = replace(DRAWING, look=Look.DONOR, steps=2, noise=0.5, strength=0.0, inner_first=False, gentle_push=False)
    both = Faces((synthetic_face(60, 90, 70), synthetic_face(180, 90, 70)), 1, HEIGHT, WIDTH)
    result = protect_faces(pictures(1), both, ProtectSettings(drawing=drawing), kind_tools)
    assert result.methods == ("new face", "blur")
    alone = protect_faces(pictures(1), replace(both, items=both.items[1:]), ProtectSettings(Method.BLUR), never)
    hidden = (alone.mask > 0).expand_as(alone.images)
    assert torch.equal(result.images[hidden], alone.images[hidden])
    with pytest.raises(NumericalError, match="got none for face 1"):
        protect_faces(pictures(1), both, ProtectSettings(fallback=Fallback.ERROR, drawing=drawing), kind_tools)


@pytest.mark.parametrize("method", [Method.BLUR, Method.MOSAIC, Method.SOLID])
def test_hiding_loads_nothing_and_takes_every_face(method: Method):
    result = protect_faces(pictures(1), BOTH, ProtectSettings(method), never)
    assert result.methods == (method.value,) * 2


@pytest.mark.parametrize("method", Method)
def test_no_face_leaves_pictures_as_they_are(method: Method):
    result = protect_faces(pictures(1), Faces((), 1, HEIGHT, WIDTH), ProtectSettings(method), never)
    assert torch.equal(result.images, pictures(1))
    assert float(result.mask.max()) == 0.0
    assert result.methods == ()


def test_one_seed_gives_one_result(kind_tools: Tools):
    first, second = (protect_faces(pictures(1), BOTH, ProtectSettings(drawing=DRAWING), kind_tools) for _ in range(2))
    assert torch.equal(first.images, second.images)


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="one variant"):
        ProtectSettings(drawing=AnonymizeSettings(variants=2))
    with pytest.raises(InputError, match="least distance"):
        ProtectSettings(min_eye_mouth_px=1.0)
