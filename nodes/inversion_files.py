"""Inversions on disk: what brings faces back, sealed with a key."""

from __future__ import annotations

from pathlib import Path

import comfy.sd
import torch
from comfy_api.latest import io, ui

from ..faceprivacy_core.builtin.model import build_token_head, read_face_model_file
from ..faceprivacy_core.embeddings.inversion import FaceInversion
from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.files import write_together
from ..faceprivacy_core.inversions.checks import check_channels, check_levels, check_model
from ..faceprivacy_core.inversions.files import SUFFIX, inversion_file, read_inversion_file
from ..faceprivacy_core.inversions.stored import MakeConditions, StoredInversion, conditions_of_tokens
from ..faceprivacy_core.keyed.keys import PrivacyKey
from ..faceprivacy_core.masks import MaskSettings, Region, draw_masks
from . import _convert, _host
from ._host_fingerprints import is_builtin, model_identity
from ._host_levels import levels_of
from ._host_text import TextTokens
from ._host_tokens import stage_conditions
from ._outputs import output_place
from ._types import CropsType, InversionType, KeyType
from .keyed import problem_of

CATEGORY = "face privacy/inversion"


class SaveInversion(io.ComfyNode):
    """Write an inversion to a file, sealed with a key.

    Core: `faceprivacy_core.inversions.files.inversion_file`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_SaveInversion",
            display_name="Save Inversion (Face Privacy)",
            category=CATEGORY,
            description="Saves what brings the faces back: embeddings, noise map and placement, sealed with a key. The file "
            "alone gives the faces to whoever can open it. No workflow is written.",
            search_aliases=["save embedding", "save noise", "fpinv", "recover"],
            inputs=[
                InversionType.Input("inversion", tooltip="From MSI Inversion, with 'noise_map' on and 'crops' connected."),
                io.String.Input(
                    "filename_prefix", default="inversion",
                    tooltip="Beginning of the file's name in the output folder; the host's %date% and folders work.",
                ),
                io.Boolean.Input(
                    "unprotected", default=False,
                    tooltip="Write without a key: whoever gets the file has the faces. Disconnect the key for it.",
                ),
                KeyType.Input("key", optional=True, tooltip="From Privacy Key: only this key opens the file."),
            ],
            outputs=[],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, inversion: FaceInversion, filename_prefix: str, unprotected: bool, key: PrivacyKey | None = None
    ) -> io.NodeOutput:
        place = output_place(filename_prefix)
        file = place.free_stem(0, [SUFFIX]) + SUFFIX
        written = inversion_file(place.folder / file, inversion, key, unprotected=unprotected)
        write_together([written], replace=False)
        how = "UNPROTECTED: whoever has this file has the faces" if key is None else f"sealed with {key!r}"
        return io.NodeOutput(ui=ui.PreviewText(f"{Path(place.subfolder, file).as_posix()}: {how}"))


class LoadInversion(io.ComfyNode):
    """Read a saved inversion.

    Core: `faceprivacy_core.inversions.files.read_inversion_file`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_LoadInversion",
            display_name="Load Inversion (Face Privacy)",
            category=CATEGORY,
            description="Loads a file of Save Inversion, checks that model, VAE and text encoder are those it was made with, "
            "and gives everything that a stock sampler needs to draw the original faces again.",
            search_aliases=["load embedding", "load noise", "fpinv", "recover"],
            inputs=[
                io.Combo.Input(
                    "file", options=_host.named_files(SUFFIX),
                    tooltip="A .fpinv file in the input folder; a name that ends in ' [output]' lies in the output folder.",
                ),
                io.Combo.Input(
                    "region", options=Region, default=Region.FACE,
                    tooltip="Part of the head that is put back. Choose what was replaced.",
                ),
                io.Float.Input(
                    "grow", default=0.0, min=-20.0, max=40.0, step=0.5, advanced=True,
                    tooltip="Widens (or narrows) the mask, in percent of the face crop's side.",
                ),
                io.Float.Input(
                    "feather", default=6.0, min=0.0, max=30.0, step=0.5, advanced=True,
                    tooltip="Width of the soft rim inside the mask's outline, in percent of the face crop's side.",
                ),
                io.Model.Input("model", tooltip="The model the inversion was made with."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Clip.Input("clip", optional=True, tooltip="Its text encoder. Not needed with the built-in face model."),
                KeyType.Input("key", optional=True, tooltip="From Privacy Key. Not needed for an unprotected file."),
            ],
            outputs=[
                InversionType.Output("inversion", tooltip="For Embedding Schedule, preset recover."),
                io.Latent.Output("noise", tooltip="Noise map for SamplerCustom: add_noise off, cfg 1, sampler euler."),
                io.Sigmas.Output("sigmas", tooltip="The noise levels that were inverted; sample with these."),
                CropsType.Output("crops", tooltip="Where the faces lie, for Face Paste."),
                io.Mask.Output("mask", tooltip="Soft mask over these faces, for Face Paste."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return True if file is None else problem_of(_host.input_file, file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> str | float:
        return _host.input_file_digest(file)

    @classmethod
    def execute(
        cls, file: str, region: str, grow: float, feather: float, model: io.Model.Type, vae: io.Vae.Type,
        clip: comfy.sd.CLIP | None = None, key: PrivacyKey | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if key is not None:
            key.check_server_use()
        stored = read_inversion_file(_host.input_file(file), key)
        check_model(stored.model, model_identity(model, vae, clip))
        check_channels(stored.noise, model.get_model_object("latent_format").latent_channels)
        levels = levels_of(model)
        check_levels(stored.noise, levels.schedule)
        inversion = stored.with_conditions(make_conditions(stored, model, vae, clip))
        sigmas = torch.tensor(stored.noise.sigmas)
        samples = model.get_model_object("latent_format").process_out(stored.noise.latent * sigmas[0])
        mask = draw_masks(stored.crops.faces, MaskSettings(Region(region), grow, feather))
        return io.NodeOutput(
            inversion, {"samples": samples}, levels.of_host(sigmas), stored.crops, _convert.core_to_mask(mask[:, None])
        )


def make_conditions(
    stored: StoredInversion, model: io.Model.Type, vae: comfy.sd.VAE, clip: comfy.sd.CLIP | None
) -> MakeConditions:
    """Choose the way from saved tokens to conditions: straight, or through the checkpoint's text encoders.

    Raises:
        InputError: No CLIP is connected.
        UnsupportedModelError: A CLIP of another kind.
    """
    if set(stored.tokens) == {"unet"} and is_builtin(vae.first_stage_model):
        return conditions_of_tokens(build_token_head(read_face_model_file()).null[None].clone())
    if clip is None:
        raise InputError("Expected the CLIP of the checkpoint, got none. Connect 'clip' of the same Load Checkpoint.")
    with torch.inference_mode(False):
        space = TextTokens(model, clip, trainable=False)
    return lambda tokens: stage_conditions(space, tokens)
