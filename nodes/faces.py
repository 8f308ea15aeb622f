"""Finding, choosing and masking faces."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..faceprivacy_core.faces.detect import MIN_CONFIDENCE, load_detector
from ..faceprivacy_core.faces.people import People
from ..faceprivacy_core.faces.preview import draw_numbers
from ..faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, RECOGNIZER_NAMES, load_ensemble
from ..faceprivacy_core.faces.select import Order, Selection, Which, detect_faces, parse_numbers
from ..faceprivacy_core.masks import MaskSettings, Region, draw_masks
from ..faceprivacy_core.protocols import FaceRecognizer
from . import _convert, _host
from ._no_face import NoFacePolicy, apply_policy
from ._one_step import REFERENCE_RULES, add_missed, load_recognizers, missed_input, person_input, photos_of
from ._types import FacesType, RecognizersType

ENSEMBLES = {"surrogates": DEFAULT_SURROGATES, "held out": DEFAULT_HELD_OUT}
INSIGHTFACE = "insightface (non-commercial)"
DETECTORS = ["yunet", INSIGHTFACE]


class LoadFaceRecognizers(io.ComfyNode):
    """Load face recognisers for guiding or for measuring.

    Core: `faceprivacy_core.faces.recognizers.load_ensemble`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_LoadFaceRecognizers",
            display_name="Load Face Recognizers (Face Privacy)",
            category="face privacy/loaders",
            description="Loads face recognisers: the surrogates to guide with, the held-out ones to measure with, or one by "
            "name. Files come from 'faceprivacy models get'; nothing is downloaded here.",
            search_aliases=["arcface", "facenet", "face recognition", "insightface"],
            inputs=[
                io.Combo.Input(
                    "recognizers", options=[*ENSEMBLES, *RECOGNIZER_NAMES, INSIGHTFACE],
                    tooltip="Surrogates: permissive licences, for guidance. Held out: never seen by the methods, for reports.",
                ),
                RecognizersType.Input("add_to", optional=True, tooltip="Further recognisers to put before these."),
            ],
            outputs=[RecognizersType.Output("recognizers", tooltip="For Energy Guidance, Face Mask and Privacy Report.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, recognizers: str, add_to: tuple[FaceRecognizer, ...] = ()) -> io.NodeOutput:
        if recognizers == INSIGHTFACE:
            return io.NodeOutput((*add_to, _host.load_insightface_recognizer()))
        present = {recognizer.name for recognizer in add_to}
        names = [name for name in ENSEMBLES.get(recognizers, (recognizers,)) if name not in present]
        loaded = load_ensemble(names, _host.model_dirs(), _host.compute_device()) if names else ()
        return io.NodeOutput((*add_to, *loaded))


class FaceMask(io.ComfyNode):
    """Find, choose and mask faces.

    Core: `faceprivacy_core.faces.select.detect_faces`, `faceprivacy_core.masks.draw_masks`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_FaceMask",
            display_name="Face Mask (Face Privacy)",
            category="face privacy/faces",
            description="Finds every face in every picture, lets you choose, and draws a soft mask. The preview numbers the "
            "chosen faces. By default a picture without a face stops the graph.",
            search_aliases=["detect faces", "face detection", "segment face", "face bbox"],
            inputs=[
                io.Image.Input("image", tooltip="RGB pictures of any size."),
                io.Combo.Input("region", options=Region, default=Region.FACE, tooltip="Part of the head the mask covers."),
                io.Float.Input(
                    "grow", default=0.0, min=-20.0, max=40.0, step=0.5,
                    tooltip="Widens (or narrows) the mask, in percent of the face crop's side.",
                ),
                io.Float.Input(
                    "feather", default=6.0, min=0.0, max=30.0, step=0.5,
                    tooltip="Width of the soft rim inside the mask's outline, in percent of the face crop's side.",
                ),
                io.Combo.Input("which", options=Which, default=Which.ALL, tooltip="Which of the faces are chosen."),
                io.String.Input(
                    "numbers", default="",
                    tooltip="Face numbers for 'by number', separated by commas, from 0, as in the preview of all faces.",
                ),
                io.Combo.Input("order", options=Order, default=Order.LEFT_TO_RIGHT, tooltip="How faces are numbered."),
                io.Combo.Input(
                    "on_no_face", options=NoFacePolicy, default=NoFacePolicy.ERROR,
                    tooltip="Picture without a chosen face: stop with an error, let it pass unchanged, or blur all of it.",
                ),
                io.Float.Input(
                    "confidence", default=MIN_CONFIDENCE, min=0.05, max=0.95, step=0.05, advanced=True,
                    tooltip="Detections below this confidence are dropped. Lower finds more faces and more mistakes.",
                ),
                io.Combo.Input(
                    "detector", options=DETECTORS, default=DETECTORS[0], advanced=True,
                    tooltip="YuNet (MIT), or the SCRFD model you placed in models/insightface (non-commercial use only).",
                ),
                io.Image.Input("reference", optional=True, tooltip="Photos of the people the reference rules mean."),
                RecognizersType.Input(
                    "recognizers", optional=True, tooltip="Who compare with the reference; the surrogates if open."
                ),
                missed_input(),
                person_input(),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The pictures; blurred ones if on_no_face says so."),
                io.Mask.Output("mask", tooltip="Soft mask over the chosen faces, per picture."),
                FacesType.Output("faces", tooltip="The chosen faces."),
                io.Image.Output("preview", tooltip="The pictures with numbered faces."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, region: str, grow: float, feather: float, which: str, numbers: str, order: str,
        on_no_face: str, confidence: float, detector: str, reference: io.Image.Type | None = None,
        recognizers: tuple[FaceRecognizer, ...] = (), missed: io.Mask.Type | None = None,
        person: tuple[People, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        images = _convert.image_to_core(image)
        pictures = [_convert.image_to_uint8(one) for one in images]
        references = photos_of(reference)
        if which in REFERENCE_RULES and not recognizers:
            recognizers = load_recognizers(DEFAULT_SURROGATES)
        selection = Selection(Which(which), Order(order), parse_numbers(numbers) if which == Which.BY_NUMBER else ())
        finder = (
            _host.load_insightface_detector(confidence)
            if detector == INSIGHTFACE
            else load_detector(_host.model_dirs(), min_confidence=confidence)
        )
        faces = detect_faces(pictures, finder, selection, recognizers=recognizers, references=references, people=person)
        faces = add_missed(faces, pictures, missed, Order(order))
        apply_policy(images, pictures, faces, on_no_face, is_choice=which != Which.ALL)
        mask = draw_masks(faces, MaskSettings(Region(region), grow, feather))
        shown = [draw_numbers(picture, faces.of_image(i), mask[i].numpy()) for i, picture in enumerate(pictures)]
        preview = _convert.core_to_image(_convert.stack_uint8(shown))
        return io.NodeOutput(_convert.core_to_image(images), mask, faces, preview, ui=ui.PreviewImage(preview))
