"""Anonymising in one node: pictures in, protected pictures out."""

from __future__ import annotations

import json

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..faceprivacy_core.anonymize import AnonymizeSettings, Look
from ..faceprivacy_core.builtin.model import load_face_model
from ..faceprivacy_core.donors import DonorSettings
from ..faceprivacy_core.faces.detect import MIN_CONFIDENCE, load_detector
from ..faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, load_ensemble
from ..faceprivacy_core.faces.select import Selection, Which, detect_faces, parse_numbers
from ..faceprivacy_core.masks import MaskSettings, Region
from ..faceprivacy_core.metrics.draw import draw_report, summarize
from ..faceprivacy_core.metrics.perceptual import load_perceptual
from ..faceprivacy_core.metrics.report import compute_report
from ..faceprivacy_core.protect import DrawingTools, Fallback, Method, ProtectResult, ProtectSettings, protect_faces
from ..faceprivacy_core.protocols import FaceDetector, FaceRecognizer
from ..faceprivacy_core.types import Faces
from . import _convert, _host
from ._no_face import NoFacePolicy, apply_policy
from ._types import FacesType

REFERENCE_RULES = (Which.ONLY_REFERENCE, Which.EXCEPT_REFERENCE)


class AnonymizeFaces(io.ComfyNode):
    """Find faces, protect them, and measure what that achieved.

    Core: `faceprivacy_core.protect.protect_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_AnonymizeFaces",
            display_name="Anonymize Faces (Face Privacy)",
            category="face privacy",
            description="Replaces every face by one of nobody, or blurs, pixelates or covers it. A face that is too small, or "
            "that face recognisers would still know, is blurred instead. The report says what recognisers that were not used "
            "still see. There is no way back; for that take Keyed Encrypt.",
            search_aliases=[
                "anonymize", "anonymise", "blur", "blur faces", "pixelate", "mosaic", "censor", "redact", "gdpr", "dsgvo",
                "privacy", "hide face", "deidentify", "face swap",
            ],
            inputs=[
                io.Image.Input("image", tooltip="RGB pictures of any size."),
                io.Combo.Input(
                    "method", options=Method, default=Method.NEW_FACE,
                    tooltip="What stands in place of a face: one of nobody, drawn by the built-in model, a blur, a mosaic, or "
                    "plain grey. Only grey keeps nothing of the face.",
                ),
                io.Combo.Input("which", options=Which, default=Which.ALL, tooltip="Which of the faces are protected."),
                io.String.Input(
                    "numbers", default="",
                    tooltip="Face numbers for 'by number', separated by commas, from 0, left to right.",
                ),
                io.Combo.Input(
                    "region", options=Region, default=Region.FACE,
                    tooltip="Part of the head that is replaced. The inner face keeps fringe and beard, by which recognisers "
                    "know people, too.",
                ),
                io.Combo.Input(
                    "fallback", options=Fallback, default=Fallback.BLUR,
                    tooltip="For a face that is too small to be drawn, or whose new face is still recognised. error: stop.",
                ),
                io.Combo.Input(
                    "on_no_face", options=NoFacePolicy, default=NoFacePolicy.ERROR,
                    tooltip="Picture without a chosen face: stop with an error, let it pass unchanged, or blur all of it.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=True,
                    tooltip="Another seed, other new faces. The same seed and settings, the same faces.",
                ),
                io.Combo.Input(
                    "look", options=Look, default=Look.DONOR, advanced=True,
                    tooltip="Whose look a new face takes: a generated person's, or the person's own, pushed away from the "
                    "identity as published (then set steps 50, noise 0.6 and strength 1).",
                ),
                io.Int.Input(
                    "candidates", default=3, min=1, max=16, advanced=True,
                    tooltip="With a generated person's look: faces drawn, of which the best is kept.",
                ),
                io.Boolean.Input(
                    "follow_traits", default=True, advanced=True,
                    tooltip="Take a generated person of the apparent sex and age. Off mixes them, which gives less away.",
                ),
                io.Int.Input(
                    "steps", default=AnonymizeSettings.steps, min=2, max=200, advanced=True, tooltip="Of drawing new faces."
                ),
                io.Float.Input(
                    "noise", default=AnonymizeSettings.noise, min=0.05, max=1.0, step=0.05, advanced=True,
                    tooltip="How far into noise a new face is taken while it is fitted into the picture.",
                ),
                io.Float.Input(
                    "strength", default=AnonymizeSettings.strength, min=0.0, max=10.0, step=0.05, advanced=True,
                    tooltip="How hard the identity is pushed away while a new face is drawn; slow.",
                ),
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
            ],
            outputs=[
                io.Image.Output("image", tooltip="The protected pictures. Look at them before you publish them."),
                io.Mask.Output("mask", tooltip="Where pixels were replaced."),
                FacesType.Output("faces", tooltip="The faces that were protected, for Privacy Report and other nodes."),
                io.String.Output("report", tooltip="What was done to every face and what recognisers see, as JSON."),
                io.Image.Output("report_image", tooltip="The report as a picture; without measuring, the result."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, method: str, which: str, numbers: str, region: str, fallback: str, on_no_face: str,
        seed: int, look: str, candidates: int, follow_traits: bool, steps: int, noise: float, strength: float,
        confidence: float, measure: bool,
        reference: io.Image.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        images = _convert.image_to_core(image)
        detector = load_detector(_host.model_dirs(), min_confidence=confidence)
        faces = choose_faces(images, detector, Which(which), numbers, reference)
        originals = images.clone()
        pictures = [_convert.image_to_uint8(one) for one in images]
        apply_policy(images, pictures, faces, on_no_face, is_choice=which != Which.ALL)
        drawing = AnonymizeSettings(
            steps=steps, noise=noise, strength=strength, seed=seed, mask=MaskSettings(Region(region)),
            look=Look(look), candidates=candidates, donors=DonorSettings(follow_traits=follow_traits),
        )  # fmt: skip
        settings = ProtectSettings(Method(method), Fallback(fallback), drawing=drawing)
        with torch.inference_mode(False):
            result = protect_faces(
                images.clone(), faces, settings, lambda: load_tools(detector), progress=_host.HostProgress(steps)
            )
            measured = measure_result(originals.clone(), result, faces, detector) if measure else None
        protected = _convert.core_to_image(result.images)
        report, drawn = measured or (list_result(result, faces), protected)
        text = json.dumps(report, indent=2)
        return io.NodeOutput(
            protected, _convert.core_to_mask(result.mask), faces, text, drawn, ui=ui.PreviewImage(protected)
        )  # fmt: skip


def choose_faces(images: Tensor, detector: FaceDetector, which: Which, numbers: str, reference: Tensor | None) -> Faces:
    """Find and choose the faces of host pictures, left to right."""
    pictures = [_convert.image_to_uint8(one) for one in images]
    references = [] if reference is None else [_convert.image_to_uint8(one) for one in _convert.image_to_core(reference)]
    recognizers = load_recognizers(DEFAULT_SURROGATES) if which in REFERENCE_RULES else ()
    selection = Selection(which, numbers=parse_numbers(numbers) if which is Which.BY_NUMBER else ())
    return detect_faces(pictures, detector, selection, recognizers=recognizers, references=references)


def load_tools(detector: FaceDetector) -> DrawingTools:
    """Load what drawing new faces needs onto the host's device."""
    return DrawingTools(load_face_model().to(_host.compute_device()), load_recognizers(DEFAULT_SURROGATES), detector)


def load_recognizers(names: tuple[str, ...]) -> tuple[FaceRecognizer, ...]:
    """Load recognisers from the host's folders onto its device."""
    return load_ensemble(names, _host.model_dirs(), _host.compute_device())


def measure_result(
    originals: Tensor, result: ProtectResult, faces: Faces, detector: FaceDetector
) -> tuple[dict[str, object], Tensor]:  # fmt: skip
    """Measure what was achieved; return the report and its picture as a host IMAGE."""
    seen, held_out = load_recognizers(DEFAULT_SURROGATES), load_recognizers(DEFAULT_HELD_OUT)
    is_guided = Method.NEW_FACE.value in result.methods  # only drawing knows any recogniser
    perceptual = load_perceptual(_host.model_dirs())
    reports, pictures = [], []
    for index, (before, after) in enumerate(zip(originals, result.images, strict=True)):
        pair = _convert.image_to_uint8(before), _convert.image_to_uint8(after)
        report = compute_report(
            *pair, detector, (*seen, *held_out), seen=set(DEFAULT_SURROGATES if is_guided else ()),
            mask=result.mask[index, 0].numpy(), perceptual=perceptual, faces=faces.of_image(index),
        )  # fmt: skip
        entry = report.to_json_dict() | {"summary": summarize(report), "methods": methods_of(result, faces, index)}
        reports.append(entry)
        pictures.append(draw_report(report, *pair))
        _host.check_interrupted()
    text = reports[0] if len(reports) == 1 else {"pictures": reports}
    return text, _convert.core_to_image(_convert.stack_padded(pictures))


def list_result(result: ProtectResult, faces: Faces) -> dict[str, object]:
    """Say what was done to every face, without measuring."""
    entries = [{"methods": methods_of(result, faces, index)} for index in range(faces.num_images)]
    return entries[0] if len(entries) == 1 else {"pictures": entries}


def methods_of(result: ProtectResult, faces: Faces, index: int) -> list[str]:
    """Return what stands in place of every face of one picture."""
    return [done for face, done in zip(faces.items, result.methods, strict=True) if face.image_index == index]
