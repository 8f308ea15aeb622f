"""Lending faces the look of people who do not exist."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io

from ..faceprivacy_core.auditions import audition
from ..faceprivacy_core.builtin.donors import rim_of
from ..faceprivacy_core.builtin.model import FaceEncoder
from ..faceprivacy_core.donors import Age, DonorSettings, Sex, choose_donors, donor_costs, donor_pictures, fill_in, see_person
from ..faceprivacy_core.embeddings.inversion import ModelIdentity, inversion_of_tokens
from ..faceprivacy_core.embeddings.schedule import recover_schedule
from ..faceprivacy_core.errors import NumericalError
from ..faceprivacy_core.images import crop_landmarks, cut
from ..faceprivacy_core.protocols import FaceRecognizer
from ..faceprivacy_core.regenerate import in_parts
from ..faceprivacy_core.rng import face_seeds
from ..faceprivacy_core.types import FaceCrops
from . import _convert, _inversion_inputs
from ._traits import trait_inputs
from ._types import CropsType, EncoderType, InversionType, RecognizersType
from .schedule import to_conditioning, to_empty_conditioning


class DonorFace(io.ComfyNode):
    """Choose a generated person for every face.

    Core: `faceprivacy_core.donors`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_DonorFace",
            display_name="Donor Face (Face Privacy)",
            category="face privacy/inversion",
            description="For every face chooses one of the built-in model's people who do not exist: of like pose, skin and "
            "apparent sex and age, that fits in when tried there, but nobody that a recogniser takes for the person. Its "
            "embeddings go to KSampler, or to Embedding Schedule, in place of the person's own; its picture, put into the old "
            "surroundings, is what KSampler starts from.",
            search_aliases=["new face", "replace face", "synthetic face", "generated person", "anonymize"],
            inputs=[
                EncoderType.Input("face_encoder", tooltip="From Load Built-in Face Model."),
                io.Image.Input("image", tooltip="Aligned face crops from Face Crop, at the built-in model's size."),
                io.Mask.Input("mask", tooltip="Where the crops may change, from Face Crop."),
                CropsType.Input("crops", tooltip="Placement of the crops, from Face Crop."),
                RecognizersType.Input("recognizers", tooltip="Surrogates, who say what is too alike (Load Face Recognizers)."),
                io.Int.Input("seed", default=0, min=0, max=2**53 - 1, control_after_generate=True,
                             tooltip="Which of the fitting people is taken. The same seed takes the same."),
                io.Int.Input("among", default=DonorSettings.among, min=1, max=64, advanced=True,
                             tooltip="How many of the best fitting people the seed chooses from."),
                io.Boolean.Input("follow_traits", default=True, tooltip="Follow the person's apparent sex and age. Off mixes "
                                 "them: that gives less away and looks less natural in the same clothes and hair."),
                io.Boolean.Input("match_colour", default=True, advanced=True,
                                 tooltip="Give the donor the colours and the light of the person's face."),
                io.Boolean.Input("insist", default=True, optional=True,
                                 tooltip="Stop if recognisers would take every fitting donor, in the face's place, for the "
                                 "person. Turn it off for hiding, where recognisers shall know the person."),
                io.Mask.Input("face_mask", optional=True,
                              tooltip="The mask of Face Mask, at the size of the pictures, so that donors are judged as they "
                              "will be put back. Without it all of 'mask' counts."),
                *trait_inputs(),
            ],
            outputs=[
                InversionType.Output("inversion", tooltip="The donors' embeddings, for Embedding Schedule."),
                io.Image.Output("start", tooltip="Crops with the donor inside the mask, for VAE Encode."),
                io.Image.Output("donors", tooltip="The chosen people, to look at."),
                io.Conditioning.Output("positive", tooltip="The donors at every noise level, for KSampler."),
                io.Conditioning.Output("negative", tooltip="The empty condition; has no effect at cfg 1."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, face_encoder: FaceEncoder, image: io.Image.Type, mask: io.Mask.Type, crops: FaceCrops,
        recognizers: Sequence[FaceRecognizer], seed: int, among: int, follow_traits: bool, match_colour: bool,
        insist: bool = True, face_mask: io.Mask.Type | None = None,
        sex: str = Sex.LIKE_THE_PERSON, age: str = Age.LIKE_THE_PERSON,
    ) -> io.NodeOutput:  # fmt: skip
        faces = _convert.image_to_core(_inversion_inputs.checked_faces(image, crops))
        masks = _convert.mask_to_core(mask, len(faces))
        taken = masks if face_mask is None else cut(_convert.mask_to_core(face_mask, crops.faces.num_images), crops)
        settings = DonorSettings(among, follow_traits, match_colour, Sex(sex), Age(age))
        with torch.inference_mode(False), torch.no_grad():
            latents = in_parts(face_encoder.encode, faces.clone())
            person = see_person(faces.clone(), crop_landmarks(crops), recognizers, latents)
            costs = donor_costs(face_encoder.donors, person, settings, rim_of(taken.clone(), latents.shape[-1]))
            (heard,) = audition(face_encoder, person, costs, [taken.clone()], settings)
            if insist:
                check_all_have_donors(heard.passed)
            chosen = choose_donors(heard.order, face_seeds(seed, [crop.face.image_index for crop in crops.items]), settings)
            pictures = donor_pictures(face_encoder, chosen, person, settings)
            tokens = face_encoder.encode_tokens(pictures)
            inversion = inversion_of_tokens(tokens, face_encoder.empty_tokens(), ModelIdentity(face_encoder.model_name))
        start = fill_in(faces, masks, pictures)
        positive, negative = to_conditioning(inversion, recover_schedule()), to_empty_conditioning(inversion)
        return io.NodeOutput(
            inversion, _convert.core_to_image(start), _convert.core_to_image(pictures), positive, negative
        )  # fmt: skip


def check_all_have_donors(has_donor: torch.Tensor) -> None:
    """Make sure that somebody passed for every face (N,); NumericalError otherwise."""
    if not bool(has_donor.all()):
        missing = ", ".join(str(int(number)) for number in (~has_donor).nonzero())
        raise NumericalError(
            f"Expected donors whom no recogniser takes for the person when they stand in the face's place, got none for face "
            f"{missing}. Choose a larger region in Face Mask, or use Anonymize Faces, which does so by itself."
        )
