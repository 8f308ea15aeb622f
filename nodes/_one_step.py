"""What the nodes that go from pictures to protected pictures share: their inputs and outputs, and choosing faces."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io
from torch import Tensor

from ..faceprivacy_core.builtin.model import load_face_model
from ..faceprivacy_core.faces.by_hand import add_painted_faces
from ..faceprivacy_core.faces.detect import MIN_CONFIDENCE, load_detector
from ..faceprivacy_core.faces.people import People
from ..faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES, load_ensemble
from ..faceprivacy_core.faces.select import Order, Selection, Which, detect_faces, parse_numbers
from ..faceprivacy_core.protect import DrawingTools
from ..faceprivacy_core.protocols import FaceDetector, FaceRecognizer
from ..faceprivacy_core.types import Faces, Picture
from . import _convert, _host
from ._no_face import NoFacePolicy
from ._types import FacesType, PersonType

SENSITIVE = 0.2
"""Confidence of the detector where somebody painted: there is a face, and it was missed."""
REFERENCE_RULES = (Which.ONLY_REFERENCE, Which.EXCEPT_REFERENCE)


def choosing_inputs() -> list[io.Input]:
    """Return the inputs that say whose faces are meant."""
    return [
        io.Combo.Input("which", options=Which, default=Which.ALL, tooltip="Which of the faces are protected."),
        io.String.Input(
            "numbers", default="",
            tooltip="Face numbers for 'by number', separated by commas, from 0, left to right.",
        ),
    ]  # fmt: skip


def policy_input() -> io.Input:
    """Return the input that says what becomes of a picture without a face."""
    return io.Combo.Input(
        "on_no_face", options=NoFacePolicy, default=NoFacePolicy.ERROR,
        tooltip="Picture without a chosen face: stop with an error, let it pass unchanged, or blur all of it.",
    )  # fmt: skip


def last_inputs() -> list[io.Input]:
    """Return the inputs for detection and measuring."""
    return [
        io.Float.Input(
            "confidence", default=MIN_CONFIDENCE, min=0.05, max=0.95, step=0.05, advanced=True,
            tooltip="Detections below this confidence are dropped. Lower finds more faces and more mistakes.",
        ),
        io.Boolean.Input(
            "measure", default=True, advanced=True,
            tooltip="Ask recognisers that were not used whether they still know the faces. Off is faster; the report "
            "then only lists what was done.",
        ),
        io.Image.Input("reference", optional=True, tooltip="Photos of the people the reference rules mean."),
        missed_input(),
    ]  # fmt: skip


def missed_input() -> io.Input:
    """Return the input for faces that no detector found."""
    return io.Mask.Input(
        "missed", optional=True,
        tooltip="Faces that were not found: paint over each of them in Load Image's mask editor, and connect its mask. They "
        "are protected, too.",
    )  # fmt: skip


def person_input() -> io.Input:
    """Return the input for people who were saved before."""
    return PersonType.Input(
        "person", optional=True, tooltip="From Load Person: whom the reference rules mean, instead of a photo or besides it."
    )


def outputs() -> list[io.Output]:
    """Return the outputs of a node that does all of it."""
    return [
        io.Image.Output("image", tooltip="The protected pictures. Look at them before you publish them."),
        io.Mask.Output("mask", tooltip="Where pixels were replaced."),
        FacesType.Output("faces", tooltip="The faces that were protected, for Privacy Report and other nodes."),
        io.String.Output("report", tooltip="What was done to every face and what recognisers see, as JSON."),
        io.Image.Output("report_image", tooltip="The report as a picture; without measuring, the result."),
    ]


def choose_faces(
    images: Tensor,
    detector: FaceDetector,
    which: Which,
    numbers: str,
    reference: Tensor | None,
    missed: Tensor | None = None,
    person: Sequence[People] = (),
) -> Faces:
    """Find and choose the faces of host pictures, left to right, and those that somebody painted over."""
    pictures = [_convert.image_to_uint8(one) for one in images]
    references = photos_of(reference)
    recognizers = load_recognizers(DEFAULT_SURROGATES) if which in REFERENCE_RULES else ()
    selection = Selection(which, numbers=parse_numbers(numbers) if which is Which.BY_NUMBER else ())
    faces = detect_faces(pictures, detector, selection, recognizers=recognizers, references=references, people=person)
    return add_missed(faces, pictures, missed)


def photos_of(reference: Tensor | None) -> list[Picture]:
    """Return reference photos as pictures of the core; none where nothing is connected."""
    return [] if reference is None else [_convert.image_to_uint8(one) for one in _convert.image_to_core(reference)]


def add_missed(
    faces: Faces, pictures: Sequence[Picture], missed: Tensor | None, order: Order = Order.LEFT_TO_RIGHT
) -> Faces:  # fmt: skip
    """Add the faces that somebody painted over."""
    if missed is None:
        return faces
    masks = _convert.mask_to_core(missed, len(pictures))
    return add_painted_faces(faces, pictures, masks, load_detector(_host.model_dirs(), min_confidence=SENSITIVE), order)


def load_recognizers(names: tuple[str, ...]) -> tuple[FaceRecognizer, ...]:
    """Load recognisers from the host's folders onto its device."""
    return load_ensemble(names, _host.model_dirs(), _host.compute_device())


def load_tools(detector: FaceDetector) -> DrawingTools:
    """Load what drawing new faces needs onto the host's device."""
    return DrawingTools(load_face_model().to(_host.compute_device()), load_recognizers(DEFAULT_SURROGATES), detector)
