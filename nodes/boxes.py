"""Faces that other nodes found, or that somebody marked: masks, the host's boxes, and SEGS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.faces.by_hand import Box, add_faces_in_boxes
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.preview import draw_numbers
from ..faceprivacy_core.masks import MaskSettings, Region, draw_masks
from ..faceprivacy_core.types import Faces
from . import _convert, _host
from ._no_face import apply_policy
from ._one_step import SENSITIVE, add_missed, policy_input
from ._types import FacesType

BoxesType = io.Custom("BOUNDING_BOX")
SegsType = io.Custom("SEGS")


class FacesFromBoxes(io.ComfyNode):
    """Take masks, boxes or SEGS for faces.

    Core: `faceprivacy_core.faces.by_hand.add_faces_in_boxes`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_FacesFromBoxes",
            display_name="Faces from Boxes (Face Privacy)",
            category="face privacy/faces",
            description="Takes what other detectors found, or what you marked, for faces: a mask, boxes, or SEGS of the Impact "
            "Pack. The detector looks into each again for eyes and mouth; where it finds none, the face is hidden, not drawn.",
            search_aliases=["mask to faces", "bbox to faces", "segs to faces", "missed face", "mark a face", "boxes"],
            inputs=[
                io.Image.Input("image", tooltip="RGB pictures of any size."),
                io.Combo.Input("region", options=Region, default=Region.FACE, tooltip="Part of the head the mask covers."),
                policy_input(),
                io.Mask.Input("marked", optional=True, tooltip="Every separate patch of this mask is a face."),
                BoxesType.Input(
                    "boxes", optional=True,
                    tooltip="Boxes in pixels: one for all pictures, a list for all pictures, or a list for each.",
                ),
                SegsType.Input("segs", optional=True, tooltip="SEGS of one picture; every segment is a face."),
                FacesType.Input("faces", optional=True, tooltip="Faces of Face Mask, to which these are added."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The pictures; blurred ones if on_no_face says so."),
                io.Mask.Output("mask", tooltip="Soft mask over these faces, per picture."),
                FacesType.Output("faces", tooltip="All faces, left to right, for Face Crop, Keyed Encrypt and the others."),
                io.Image.Output("preview", tooltip="The pictures with numbered faces."),
                io.Mask.Output(
                    "missed", tooltip="Mask of the boxes, for 'missed' of Anonymize Faces. Boxes that touch are one face there."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, region: str, on_no_face: str, marked: io.Mask.Type | None = None, boxes: Any = None,
        segs: Any = None, faces: Faces | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        images = _convert.image_to_core(image)
        pictures = [_convert.image_to_uint8(one) for one in images]
        height, width = pictures[0].shape[:2]
        given = join_boxes(read_boxes(boxes, len(pictures)), read_segs(segs, len(pictures), (height, width)))
        found = Faces((), len(pictures), height, width) if faces is None else faces
        found = add_missed(found, pictures, marked)
        detector = load_detector(_host.model_dirs(), min_confidence=SENSITIVE)
        found = add_faces_in_boxes(found, pictures, given, detector)
        apply_policy(images, pictures, found, on_no_face, is_choice=True)
        mask = draw_masks(found, MaskSettings(Region(region)))
        missed = paint(given, height, width)
        if marked is not None:
            missed = torch.maximum(missed, _convert.mask_to_core(marked, len(pictures))[:, 0])
        shown = [draw_numbers(picture, found.of_image(i), mask[i].numpy()) for i, picture in enumerate(pictures)]
        preview = _convert.core_to_image(_convert.stack_uint8(shown))
        return io.NodeOutput(_convert.core_to_image(images), mask, found, preview, missed, ui=ui.PreviewImage(preview))


def read_boxes(given: Any, count: int) -> list[list[Box]]:
    """Read the host's boxes: one, a list for all pictures, or a list of lists.

    Raises:
        InputError: They are for another number of pictures, or something is no box.
    """
    if given is None:
        return [[] for _ in range(count)]
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, Sequence):
        raise InputError(f"Expected boxes, got {type(given).__name__}.")
    if all(isinstance(one, dict) for one in given):
        given = [given] * count
    elif len(given) == 1:
        given = list(given) * count
    if len(given) != count:
        raise InputError(f"Expected boxes for {count} pictures, got them for {len(given)}. Detect on the same pictures.")
    return [[_box(one) for one in ones] for ones in given]


def _box(given: Any) -> Box:
    try:
        left, top, width, height = (float(given[key]) for key in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"Expected a box with x, y, width and height, got {given!r}.") from None
    return left, top, left + width, top + height


def read_segs(given: Any, count: int, size: tuple[int, int]) -> list[list[Box]]:
    """Read the boxes of SEGS: ((height, width), segments with `bbox`).

    Raises:
        InputError: They are of a picture of another size, or there are several pictures.
    """
    if given is None:
        return [[] for _ in range(count)]
    try:
        shape, segments = given
        boxes = [tuple(float(value) for value in segment.bbox) for segment in segments]
        shape = tuple(int(value) for value in shape[:2])
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"Expected SEGS as the Impact Pack gives them, got {type(given).__name__}.") from None
    if count != 1 or shape != size:
        raise InputError(
            f"Expected SEGS of one picture of {size[1]} x {size[0]}, got {shape[1]} x {shape[0]} for {count} pictures: "
            "detect on the same picture, and give one at a time."
        )
    return [boxes]


def join_boxes(first: list[list[Box]], second: list[list[Box]]) -> list[list[Box]]:
    """Return the boxes of both, picture by picture."""
    return [[*one, *other] for one, other in zip(first, second, strict=True)]


def paint(boxes: Sequence[Sequence[Box]], height: int, width: int) -> torch.Tensor:
    """Paint boxes on a mask (B, H, W): 1 inside."""
    mask = np.zeros((len(boxes), height, width), np.float32)
    for index, ones in enumerate(boxes):
        for left, top, right, bottom in ones:
            rows = slice(max(0, round(top)), max(0, round(bottom)))
            mask[index, rows, max(0, round(left)) : max(0, round(right))] = 1.0
    return torch.from_numpy(mask)
