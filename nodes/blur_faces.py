"""Blurring in one node: for everybody who wants no new faces."""

from __future__ import annotations

from comfy_api.latest import io

from ..faceprivacy_core.anonymize import AnonymizeSettings
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.people import People
from ..faceprivacy_core.faces.select import Which
from ..faceprivacy_core.masks import MaskSettings, Region
from ..faceprivacy_core.obscure import Obscuring
from ..faceprivacy_core.protect import Method, ProtectSettings
from . import _convert, _host
from ._language import WritesReports
from ._one_step import choose_faces, choosing_inputs, last_inputs, outputs, person_input, policy_input
from .anonymize_faces import protect_and_measure


class BlurFaces(WritesReports, io.ComfyNode):
    """Find faces and blur, pixelate or cover them.

    Core: `faceprivacy_core.protect.protect_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_BlurFaces",
            display_name="Blur Faces",  # what begins with the word searched for comes first, by how often it is used
            category="face privacy",
            description="Blurs every face, or pixelates or covers it. Needs no face model. The report says what recognisers "
            "still see. There is no way back; for faces of nobody instead take Anonymize Faces.",
            search_aliases=["blur", "blur faces", "deface"],
            inputs=[
                io.Image.Input("image", tooltip="RGB pictures of any size."),
                io.Combo.Input(
                    "method", options=Obscuring, default=Obscuring.BLUR,
                    tooltip="What stands in place of a face. Only solid, plain grey, keeps nothing of it.",
                ),
                *choosing_inputs(),
                io.Combo.Input("region", options=Region, default=Region.FACE, tooltip="What of a face is covered."),
                policy_input(),
                *last_inputs(),
                person_input(),
            ],
            outputs=outputs(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, method: str, which: str, numbers: str, region: str, on_no_face: str,
        confidence: float, measure: bool,
        reference: io.Image.Type | None = None, missed: io.Mask.Type | None = None, person: tuple[People, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        images = _convert.image_to_core(image)
        detector = load_detector(_host.model_dirs(), min_confidence=confidence)
        faces = choose_faces(images, detector, Which(which), numbers, reference, missed, person)
        settings = ProtectSettings(Method(method), drawing=AnonymizeSettings(mask=MaskSettings(Region(region))))
        return protect_and_measure(images, faces, settings, detector, on_no_face, measure, is_choice=which != Which.ALL)
