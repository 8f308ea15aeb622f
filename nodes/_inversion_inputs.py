"""What MSI Inversion is given, checked, and the embeddings that follow."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor

from ..faceprivacy_core.builtin.model import FaceEncoder
from ..faceprivacy_core.embeddings.inversion import FaceInversion, ModelIdentity, StageTokens, inversion_of_tokens
from ..faceprivacy_core.embeddings.schedule import NUM_STAGES
from ..faceprivacy_core.embeddings.sources import refined_tokens
from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.inversions.stored import as_stored
from ..faceprivacy_core.types import FaceCrops
from . import _convert
from ._host_fingerprints import is_builtin, model_identity
from ._host_learning import LearningRequest, Strategy, learn_in_host, picture_digest, tokens_digest
from ._host_text import TextTokens
from ._host_tokens import TokenSpace, UnetTokens, stage_conditions
from ._host_vision import builtin_features, clip_vision_features


@dataclass(frozen=True, eq=False)
class Parts:
    """Models connected to the node."""

    model: comfy.model_patcher.ModelPatcher
    vae: comfy.sd.VAE
    face_encoder: FaceEncoder | None
    clip: comfy.sd.CLIP | None
    clip_vision: Any


def checked_faces(image: Tensor | None, crops: FaceCrops | None) -> Tensor:
    """Return square crops as a host IMAGE.

    Raises:
        InputError: Not square, of a side that is no multiple of 8, or not as many or as large as placements say.
    """
    if image is None:
        raise InputError("Expected face crops, got nothing. Connect the image of Face Crop.")
    images = _convert.image_to_core(image)
    if images.shape[-1] != images.shape[-2] or images.shape[-1] % 8:
        raise InputError(f"Expected square crops with a side that is a multiple of 8, got {tuple(images.shape[-2:])}.")
    if crops is not None and len(crops) != len(images):
        raise InputError(
            f"Expected the placement of {len(images)} crops, got that of {len(crops)}. Connect 'crops' of the Face Crop that "
            "made the images."
        )
    if crops is not None and crops.size != images.shape[-1]:
        raise InputError(
            f"Expected crops of {crops.size} pixels, as their placement says, got {images.shape[-1]}. Connect 'crops' of the "
            "Face Crop that made the images, and do not resize them between."
        )
    return _convert.core_to_image(images)


def embed(
    parts: Parts, image: Tensor, request: LearningRequest, resume: FaceInversion | None, node_id: str | None
) -> FaceInversion:
    """Make the embeddings of faces: by the encoder, by learning, or both.

    Raises:
        InputError: What is connected does not fit the model, the strategy or what is gone on from.
    """
    _check_parts(parts, request, resume)
    identity = model_identity(parts.model, parts.vae, parts.clip)
    start = _start(parts, image, request, resume, identity)
    if request.steps == 0 and start is not None:
        with torch.inference_mode(False):
            space = _space(parts, trainable=False)
        return _inversion(space, start, identity)
    features = _features(parts, image) if request.strategy is Strategy.MSI else None
    encoded = parts.vae.encode(image)
    with torch.inference_mode(False):
        space = _space(parts, trainable=True)
        latents = parts.model.get_model_object("latent_format").process_in(encoded.clone()).float()
    key = _key(parts, image, request, start, identity)
    tokens = learn_in_host(parts.model, space, request, latents, start, features, key, node_id)
    return _inversion(space, tokens, identity)


def _check_parts(parts: Parts, request: LearningRequest, resume: FaceInversion | None) -> None:
    if is_builtin(parts.vae.first_stage_model):
        if parts.face_encoder is None:
            raise InputError(
                "Expected the face encoder of the built-in face model, got none. Connect 'face_encoder' of Load Built-in "
                "Face Model."
            )
        if request.strategy is not Strategy.ENCODER and request.steps == 0 and resume is None:
            raise InputError(f"Expected learn_steps above 0 for strategy {request.strategy.value}, got 0.")
        return
    if parts.face_encoder is not None:
        raise InputError(
            "Expected no face encoder beside the VAE of a checkpoint, got that of the built-in face model. Disconnect "
            "'face_encoder', or connect MODEL and VAE of Load Built-in Face Model."
        )
    if parts.clip is None:
        raise InputError("Expected the CLIP of the checkpoint, got none. Connect 'clip' of the same Load Checkpoint.")
    if resume is not None:
        return
    if request.strategy is Strategy.ENCODER:
        raise InputError(
            "Expected strategy stage tokens or msi for a checkpoint, got encoder, which only the built-in face model has."
        )
    if request.steps == 0:
        raise InputError("Expected learn_steps above 0 for a checkpoint, got 0. Use about 200.")


def _start(
    parts: Parts, image: Tensor, request: LearningRequest, resume: FaceInversion | None, identity: ModelIdentity
) -> dict[str, StageTokens] | None:
    """Return the tokens to begin with; None for new ones."""
    if resume is not None:
        return _resumed(resume, len(image), request, identity)
    if request.strategy is not Strategy.ENCODER or parts.face_encoder is None:
        return None
    with torch.inference_mode(False), torch.no_grad():
        base = parts.face_encoder.encode_tokens(_convert.image_to_core(image).clone())
        if request.steps == 0:
            return dict(inversion_of_tokens(base, parts.face_encoder.empty_tokens(), identity).tokens)
        return {"unet": as_stored(refined_tokens(base, NUM_STAGES))}


def _resumed(resume: FaceInversion, count: int, request: LearningRequest, identity: ModelIdentity) -> dict[str, StageTokens]:
    if request.strategy is Strategy.MSI:
        raise InputError(
            "Expected strategy encoder or stage tokens to go on from an inversion, got msi, whose module is not kept in it. "
            "Choose stage tokens: they go on from what msi has found."
        )
    if resume.num_faces != count:
        raise InputError(f"Expected an inversion of {count} faces in 'resume', got one of {resume.num_faces}.")
    if resume.model != identity:
        raise InputError(
            f"Expected an inversion made with the connected model ({identity.name}) in 'resume', got one made with "
            f"{resume.model.name} or with other weights. Connect the model it was made with."
        )
    if not resume.tokens:
        raise InputError("Expected an inversion that keeps its tokens in 'resume', got one without.")
    return dict(resume.tokens)


def _space(parts: Parts, *, trainable: bool) -> TokenSpace:
    if parts.face_encoder is not None:
        return UnetTokens(parts.face_encoder.empty_tokens())
    return TextTokens(parts.model, parts.clip, trainable=trainable)


def _features(parts: Parts, image: Tensor) -> list[Tensor]:
    if parts.clip_vision is not None:
        return clip_vision_features(parts.clip_vision, image)
    return builtin_features(_convert.image_to_core(image), parts.face_encoder)


def _inversion(space: TokenSpace, tokens: dict[str, StageTokens], identity: ModelIdentity) -> FaceInversion:
    """Finish with the tokens as a file keeps them, so that a noise map fits what comes back from it."""
    with torch.inference_mode(False):
        kept = {name: as_stored(entry) for name, entry in tokens.items()}
    made = stage_conditions(space, kept)
    return FaceInversion(made.stages, made.empty, identity, made.pooled, made.empty_pooled, kept)


def _key(
    parts: Parts, image: Tensor, request: LearningRequest, start: dict[str, StageTokens] | None, identity: ModelIdentity
) -> Hashable:
    """Name everything that decides what is learned."""
    patches = str(parts.model.patches_uuid), parts.clip and str(parts.clip.patcher.patches_uuid)
    vision = None if parts.clip_vision is None else id(parts.clip_vision.model)
    return identity, patches, vision, picture_digest(image), request, tokens_digest(start)
