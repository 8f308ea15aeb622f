"""Measuring what was achieved."""

from __future__ import annotations

import json

from comfy_api.latest import io, ui

from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT
from ..faceprivacy_core.metrics.draw import Wish, draw_report
from ..faceprivacy_core.metrics.perceptual import load_perceptual
from ..faceprivacy_core.metrics.report import compute_report
from ..faceprivacy_core.protocols import FaceRecognizer
from ..faceprivacy_core.types import Faces
from . import _convert, _host
from ._language import WritesReports, report_phrases
from ._one_step import load_recognizers
from ._types import FacesType, RecognizersType


class PrivacyReport(WritesReports, io.ComfyNode):
    """Compare protected pictures with their originals.

    Core: `faceprivacy_core.metrics.report.compute_report`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_PrivacyReport",
            display_name="Face Privacy Report",
            category="face privacy/measure",
            description="Shows whether recognisers still see the same person: similarity per recogniser beside its "
            "thresholds, detection before and after, and the change inside and outside the mask.",
            search_aliases=["face similarity", "face distance", "evaluate", "compare faces", "psnr", "ssim", "lpips"],
            inputs=[
                io.Image.Input("original", tooltip="The pictures before."),
                io.Image.Input("protected", tooltip="The pictures after; several results per picture are fine."),
                FacesType.Input("faces", tooltip="The faces that were changed, from Face Mask."),
                RecognizersType.Input(
                    "held_out", optional=True,
                    tooltip="Recognisers the method did not use: the ones to believe. If open, 'held out' of Load Face "
                    "Recognizers.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where pictures were changed; found by comparison if open."),
                RecognizersType.Input("seen", optional=True, tooltip="Recognisers the method used, marked as seen."),
                io.Image.Input(
                    "other", optional=True,
                    tooltip="Another photo of the person, one for all pictures or one for each; its largest face is compared "
                    "with both pictures. The figure to trust for hidden, recovered and decrypted faces.",
                ),
                io.Combo.Input(
                    "wish", options=Wish, default=Wish.UNKNOWN, optional=True,
                    tooltip="What recognisers shall make of the faces, which says which answers are good ones: not be "
                    "recognised (anonymised, cloaked, encrypted), or be recognised (looks hidden, brought back).",
                ),
            ],
            outputs=[
                io.String.Output("json", tooltip="The report, one entry per picture."),
                io.Image.Output("image", tooltip="The report as a picture, one per protected picture."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, original: io.Image.Type, protected: io.Image.Type, faces: Faces, held_out: tuple[FaceRecognizer, ...] = (),
        mask: io.Mask.Type | None = None, seen: tuple[FaceRecognizer, ...] = (), other: io.Image.Type | None = None,
        wish: str = Wish.UNKNOWN,
    ) -> io.NodeOutput:  # fmt: skip
        before, after = _convert.image_to_core(original), _convert.image_to_core(protected)
        if len(after) % len(before):
            raise InputError(f"Expected a multiple of {len(before)} protected pictures, got {len(after)}.")
        others = None if other is None else _convert.image_to_core(other)
        if others is not None and len(others) not in (1, len(before)):
            raise InputError(f"Expected one other photo, or one for each of {len(before)} pictures, got {len(others)}.")
        masks = None if mask is None else _convert.mask_to_core(mask, len(before))
        used = {recognizer.name for recognizer in seen}
        independent = tuple(name for name in DEFAULT_HELD_OUT if name not in used)
        held_out = held_out or (load_recognizers(independent) if independent else ())
        detector, perceptual = load_detector(_host.model_dirs()), load_perceptual(_host.model_dirs())
        progress = _host.HostProgress(len(after))
        reports, pictures = [], []
        for number, changed in enumerate(after):
            index = number % len(before)
            pair = _convert.image_to_uint8(before[index]), _convert.image_to_uint8(changed)
            report = compute_report(
                *pair, detector, (*seen, *held_out), seen=used,
                mask=None if masks is None else masks[index, 0].numpy(), perceptual=perceptual,
                faces=faces.of_image(index),
                other=None if others is None else _convert.image_to_uint8(others[index % len(others)]),
            )  # fmt: skip
            reports.append(report.to_json_dict())
            pictures.append(draw_report(report, *pair, Wish(wish), report_phrases()))
            progress(number + 1, len(after))
        text = json.dumps(reports[0] if len(reports) == 1 else {"pictures": reports}, indent=2)
        image = _convert.core_to_image(_convert.stack_padded(pictures))
        return io.NodeOutput(text, image, ui={"text": [text], **ui.PreviewImage(image).as_dict()})
