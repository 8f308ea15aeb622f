"""Cutting aligned crops out of pictures and putting them back."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..faceprivacy_core.blending import add_change, paste_blended
from ..faceprivacy_core.builtin.model import FaceEncoder
from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.images import check_mask, crop_faces, cut, paste_faces
from ..faceprivacy_core.regenerate import in_parts, regeneration_mask
from ..faceprivacy_core.types import FaceCrops, Faces
from . import _convert
from ._types import CropsType, EncoderType, FacesType

NO_CROP = (
    "Expected the crops of faces, but no face was found or chosen, so Face Crop has none. Put what changes the crops between "
    "Face Crop and Face Paste, choose other faces in Face Mask, or set its 'on_no_face' to error."
)


class FaceCrop(io.ComfyNode):
    """Cut an aligned square crop for every face.

    Core: `faceprivacy_core.images.crop_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_FaceCrop",
            display_name="Face Crop (Face Privacy)",
            category="face privacy/faces",
            description="Cuts an upright, aligned square for every chosen face, at the model's size, as one image batch. "
            "Nothing is squashed. Face Paste puts the changed crops back.",
            search_aliases=["align face", "crop face", "ffhq align"],
            inputs=[
                io.Image.Input("image", tooltip="The pictures that went into Face Mask."),
                FacesType.Input("faces", tooltip="From Face Mask."),
                io.Mask.Input("mask", tooltip="Where faces will be replaced, from Face Mask or drawn by you."),
                io.Int.Input(
                    "size", default=512, min=64, max=2048, step=8,
                    tooltip="Side of the crops in pixels: 512 for SD1.5, 1024 for SDXL; connect the built-in model's size.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="One crop per face."),
                io.Mask.Output("mask", tooltip="Part of each crop the model may change, for Set Latent Noise Mask."),
                CropsType.Output("crops", tooltip="Where the crops lie, for Face Paste and Energy Guidance."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: io.Image.Type, faces: Faces, mask: io.Mask.Type, size: int) -> io.NodeOutput:
        if len(faces) == 0:
            # Face Mask was told to let pictures without a face pass: nothing to sample. Face Paste asks for its
            # changed crops only where there is a face, so what lies between them is not run and nobody sees this text.
            nothing = ExecutionBlocker(NO_CROP)
            return io.NodeOutput(nothing, nothing, FaceCrops((), faces, size=size))
        images = _convert.image_to_core(image)
        masks = _convert.mask_to_core(mask, len(images))
        check_mask(images, masks)
        cut_images, crops = crop_faces(images, faces, size)
        cut_masks = regeneration_mask(cut(masks, crops))
        return io.NodeOutput(_convert.core_to_image(cut_images), _convert.core_to_mask(cut_masks), crops)


class FacePaste(io.ComfyNode):
    """Put changed crops back at full resolution.

    Core: `faceprivacy_core.images.paste_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_FacePaste",
            display_name="Face Paste (Face Privacy)",
            category="face privacy/faces",
            description="Puts changed face crops back into the pictures at full resolution with a feathered seam. Every "
            "pixel outside the mask keeps its exact value. Several results per face give several pictures.",
            search_aliases=["uncrop", "stitch", "composite face"],
            inputs=[
                io.Image.Input("image", tooltip="The original pictures."),
                io.Mask.Input("mask", tooltip="The mask that went into Face Crop."),
                CropsType.Input("crops", tooltip="From Face Crop."),
                io.Image.Input(
                    "changed", lazy=True,
                    tooltip="The changed crops, in Face Crop's order. Not computed when there is no face.",
                ),
                io.Boolean.Input(
                    "blend", default=False, optional=True,
                    tooltip="For new faces: match their colours along the seam and their sharpness to the picture. Leave it "
                    "off where the very pixels count, as when originals come back.",
                ),
                EncoderType.Input(
                    "face_encoder", optional=True,
                    tooltip="From Load Built-in Face Model: draws the detail of faces that are larger in the picture than in "
                    "their crop. Without it they get softer.",
                ),
                io.Image.Input(
                    "start", optional=True, lazy=True,
                    tooltip="What sampling began from, from Donor Face. Then only what sampling changed in it is put back, and "
                    "it loses nothing in the model's autoencoder. Needs face_encoder.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The pictures with changed faces.")],
        )  # fmt: skip

    @classmethod
    def check_lazy_status(
        cls, image: io.Image.Type, mask: io.Mask.Type, crops: FaceCrops, changed: io.Image.Type | None = None,
        blend: bool = False, face_encoder: FaceEncoder | None = None, **wanted: io.Image.Type | None,
    ) -> list[str]:  # fmt: skip
        late = {"changed": changed, **wanted}  # "start" is among what is wanted only where it is connected
        return [name for name, value in late.items() if value is None] if len(crops) > 0 else []

    @classmethod
    def execute(
        cls, image: io.Image.Type, mask: io.Mask.Type, crops: FaceCrops, changed: io.Image.Type | None = None,
        blend: bool = False, face_encoder: FaceEncoder | None = None, start: io.Image.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if len(crops) == 0:
            return io.NodeOutput(image)
        if changed is None:
            raise InputError("Expected the changed crops, got nothing. Connect the decoded result of the sampler.")
        images = _convert.image_to_core(image)
        masks = _convert.mask_to_core(mask, len(images))
        results = _convert.image_to_core(changed)
        if start is not None:
            results = _keep_start(_convert.image_to_core(start), results, face_encoder)
        enlarge = None if face_encoder is None or face_encoder.extra.detail is None else face_encoder.enlarge
        paste = paste_blended if blend else paste_faces
        pasted = paste(images, results, crops, masks, enlarge=enlarge)
        return io.NodeOutput(_convert.core_to_image(pasted))


def _keep_start(start: Tensor, results: Tensor, face_encoder: FaceEncoder | None) -> Tensor:
    """Return the start (N, 3, S, S) with what sampling changed in it (V * N, 3, S, S); InputError if it cannot be told."""
    if face_encoder is None:
        raise InputError("Expected a face_encoder with the start, got none. Connect Load Built-in Face Model.")
    if len(results) % len(start) or start.shape[1:] != results.shape[1:]:
        raise InputError(
            f"Expected the start of all changed crops, got {tuple(start.shape)} for {tuple(results.shape)}. Connect 'start' of "
            "the Donor Face that the sampler's latent came from."
        )
    with torch.inference_mode(False), torch.no_grad():
        latents = in_parts(face_encoder.encode, start.to(face_encoder.device, copy=True))
        decoded = in_parts(face_encoder.decode, latents).clamp(0.0, 1.0)
    return add_change(start, results, decoded)
