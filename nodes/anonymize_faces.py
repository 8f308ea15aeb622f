"""Anonymising in one node: pictures in, protected pictures out."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..faceprivacy_core.anonymize import AnonymizeSettings, Look
from ..faceprivacy_core.clips.batch import protect_followed
from ..faceprivacy_core.donors import Age, DonorSettings, Sex
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.people import People
from ..faceprivacy_core.faces.select import Which
from ..faceprivacy_core.masks import MaskSettings, Region
from ..faceprivacy_core.protect import Fallback, Method, ProtectResult, ProtectSettings, protect_faces
from ..faceprivacy_core.protocols import FaceDetector
from ..faceprivacy_core.types import Faces
from . import _convert, _host, _measuring
from ._language import WritesReports
from ._measuring import as_json
from ._no_face import apply_policy
from ._one_step import choose_faces, choosing_inputs, last_inputs, load_tools, outputs, person_input, policy_input
from ._traits import trait_inputs
from ._types import FacesType


class AnonymizeFaces(WritesReports, io.ComfyNode):
    """Find faces, protect them, and measure what that achieved.

    Core: `faceprivacy_core.protect.protect_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_AnonymizeFaces",
            display_name="Privacy: Anonymize Faces, Blur, Pixelate",  # the frontend ranks by titles, by search words last
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
                *choosing_inputs(),
                io.Combo.Input(
                    "region", options=Region, default=Region.FACE,
                    tooltip="The most that is replaced. A new face takes the inner face alone where recognisers then no longer "
                    "know the person; blur, mosaic and solid take all of it.",
                ),
                io.Combo.Input(
                    "fallback", options=Fallback, default=Fallback.BLUR,
                    tooltip="For a face that is too small to be drawn, or whose new face is still recognised. error: stop.",
                ),
                policy_input(),
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
                *last_inputs(),
                FacesType.Input(
                    "tracks", optional=True,
                    tooltip="Faces of Face Tracks: everybody has one new face through all frames. No face is searched again.",
                ),
                *trait_inputs(),
                person_input(),
            ],
            outputs=outputs(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, method: str, which: str, numbers: str, region: str, fallback: str, on_no_face: str,
        seed: int, look: str, candidates: int, follow_traits: bool, steps: int, noise: float, strength: float,
        confidence: float, measure: bool,
        reference: io.Image.Type | None = None, missed: io.Mask.Type | None = None,
        tracks: Faces | None = None, sex: str = Sex.LIKE_THE_PERSON, age: str = Age.LIKE_THE_PERSON,
        person: tuple[People, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        images = _convert.image_to_core(image)
        detector = load_detector(_host.model_dirs(), min_confidence=confidence)
        faces = choose_faces(images, detector, Which(which), numbers, reference, missed, person) if tracks is None else tracks
        drawing = AnonymizeSettings(
            steps=steps, noise=noise, strength=strength, seed=seed, mask=MaskSettings(Region(region)),
            look=Look(look), candidates=candidates,
            donors=DonorSettings(follow_traits=follow_traits, sex=Sex(sex), age=Age(age)),
        )  # fmt: skip
        settings = ProtectSettings(Method(method), Fallback(fallback), drawing=drawing)
        return protect_and_measure(
            images, faces, settings, detector, on_no_face, measure, is_choice=which != Which.ALL, is_followed=tracks is not None
        )  # fmt: skip


def protect_and_measure(
    images: Tensor, faces: Faces, settings: ProtectSettings, detector: FaceDetector, on_no_face: str, measure: bool,
    *, is_choice: bool, is_followed: bool = False,
) -> io.NodeOutput:  # fmt: skip
    """Protect faces and give what `outputs` names.

    Args:
        images: (B, 3, H, W) in [0, 1].
        faces: Those to protect.
        settings: How.
        detector: Looks for faces.
        on_no_face: What becomes of a picture without a chosen face.
        measure: Whether recognisers are asked.
        is_choice: Whether some were chosen from all.
        is_followed: Whether the faces are those of Face Tracks.
    """
    originals = images.clone()
    apply_policy(images, [_convert.image_to_uint8(one) for one in images], faces, on_no_face, is_choice=is_choice)
    with torch.inference_mode(False):
        protect = protect_followed if is_followed else protect_faces
        progress = _host.HostProgress(settings.drawing.steps)
        result = protect(images.clone(), faces, settings, lambda: load_tools(detector), progress=progress)
        measured = None
        if measure:
            is_guided = Method.NEW_FACE.value in result.methods  # only drawing knows any recogniser
            measured = _measuring.measure(
                originals.clone(), result.images, result.mask, faces, detector, is_guided=is_guided,
                extra=lambda index: {"methods": methods_of(result, faces, index)},
            )  # fmt: skip
    protected = _convert.core_to_image(result.images)
    text, drawn = measured or (list_result(result, faces), protected)
    return io.NodeOutput(protected, _convert.core_to_mask(result.mask), faces, text, drawn, ui=ui.PreviewImage(protected))


def list_result(result: ProtectResult, faces: Faces) -> str:
    """Say what was done to every face, without measuring."""
    return as_json([{"methods": methods_of(result, faces, index)} for index in range(faces.num_images)])


def methods_of(result: ProtectResult, faces: Faces, index: int) -> list[str]:
    """Return what stands in place of every face of one picture."""
    return [done for face, done in zip(faces.items, result.methods, strict=True) if face.image_index == index]
