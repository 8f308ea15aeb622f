"""Cloaking faces from recognisers with a diffusion model of the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io
from torch import Tensor

from ..faceprivacy_core.adversarial.attack import AttackSettings
from ..faceprivacy_core.adversarial.goals import check_acknowledged
from ..faceprivacy_core.adversarial.levels import GRID_SIGMAS
from ..faceprivacy_core.adversarial.objective import Weights
from ..faceprivacy_core.adversarial.reverse import ALIGNED, RELEASED
from ..faceprivacy_core.adversarial.settings import DEFAULT_DEPTH, MAX_FIDELITY, Aim
from ..faceprivacy_core.adversarial.sight import Identities, see_faces, see_target, thresholds
from ..faceprivacy_core.adversarial.transforms import TransformSettings
from ..faceprivacy_core.adversarial.unconditional import EmptyCondition, EmptySettings
from ..faceprivacy_core.cloak import DEFAULT_WEIGHTS, CloakResult, CloakSettings, cloak_faces
from ..faceprivacy_core.errors import InputError, NoFaceError
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.select import Selection, Which, detect_faces
from ..faceprivacy_core.masks import MaskSettings, Region, draw_masks
from ..faceprivacy_core.metrics.perceptual import load_perceptual
from ..faceprivacy_core.protocols import FaceRecognizer
from ..faceprivacy_core.types import Faces
from . import _convert, _host
from ._host_attack_view import CANCEL, AttackView, plot
from ._host_finishing import finishing_sigmas, to_conditioning, to_latent
from ._host_levels import levels_of
from ._host_memory import MEMORY, chosen_memory
from ._host_model import HostModel, with_model
from ._types import CropsType, FacesType, RecognizersType

DEFAULTS = CloakSettings()
SCHEDULES = {"aligned": ALIGNED, "released": RELEASED}


class AdversarialLatent(io.ComfyNode):
    """Change faces so that people still know them and recognisers do not.

    Core: `faceprivacy_core.cloak.cloak_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_AdversarialLatent",
            display_name="Adversarial Latent (Face Privacy)",
            category="face privacy/adversarial",
            description="Moves every chosen face away from face recognisers in the latent space of a diffusion model; people "
            "go on recognising the person. It protects from machines, not from people, and not from every machine. Measure "
            "with held-out recognisers, and look at the picture.",
            search_aliases=["cloak", "adversarial", "dodge face recognition", "fawkes", "protect face"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="SD1.x, SD2.x, SDXL, SD3, Flux or the built-in face model, without Energy Guidance."
                ),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Image.Input("image", tooltip="The whole pictures that went into Face Mask."),
                FacesType.Input("faces", tooltip="The faces to cloak, from Face Mask."),
                RecognizersType.Input(
                    "recognizers", tooltip="Whom to escape. Two or more of different families transfer better to others."
                ),
                io.Conditioning.Input(
                    "positive", tooltip="The empty condition: 'empty' of Load Built-in Face Model, or an encoded empty prompt."
                ),
                io.Int.Input(
                    "size", default=512, min=64, max=2048, step=8,
                    tooltip="Side of the crops in pixels: 512 for SD1.5, 1024 for SDXL; connect the built-in model's size.",
                ),
                io.Int.Input(
                    "iterations", default=DEFAULTS.attack.iterations, min=0, max=500,
                    tooltip="Updates of every face at most; a face that is protected stops earlier. 0 changes nothing.",
                ),
                io.Float.Input(
                    "learning_rate", default=DEFAULTS.attack.learning_rate, min=0.001, max=1.0, step=0.001, round=False,
                    tooltip="Step of an update in the latent. With a fidelity limit it says how fast the change turns, not how "
                    "large it is; without a limit take 0.01 to 0.1.",
                ),
                io.Float.Input(
                    "attack_weight", default=DEFAULT_WEIGHTS.attack, min=0.001, max=100.0, step=0.001, round=False,
                    advanced=True, tooltip="Weight of being somebody else to the recognisers.",
                ),
                io.Float.Input(
                    "change_weight", default=DEFAULT_WEIGHTS.change, min=0.0, max=10000.0, step=1.0,
                    tooltip="Weight of staying close to the original picture. Higher changes less and protects less.",
                ),
                io.Float.Input(
                    "structure_weight", default=DEFAULT_WEIGHTS.structure, min=0.0, max=10000.0, step=0.1, advanced=True,
                    tooltip="Weight of keeping the model's self-attention, the paper's structure loss. Above 0 it costs time "
                    "and memory.",
                ),
                io.Float.Input(
                    "margin", default=DEFAULTS.margin, min=0.0, max=1.0, step=0.01,
                    tooltip="How far below their limits the similarities are pushed. More transfers better to recognisers "
                    "that are not connected, and changes more.",
                ),
                io.Boolean.Input(
                    "robust", default=True,
                    tooltip="Also survive resizing, JPEG, blur and small shifts. Off is faster and breaks more easily.",
                ),
                io.Boolean.Input(
                    "learned_empty", default=False, advanced=True,
                    tooltip="Learn the empty condition of every level, as the paper does, so that the model returns to the "
                    "picture more exactly.",
                ),
                io.Combo.Input(
                    "schedule", options=list(SCHEDULES), default="aligned", advanced=True,
                    tooltip="aligned: the model is told the noise level a latent has. released: one level less, as the "
                    "authors' code does.",
                ),
                io.Combo.Input("region", options=Region, default=Region.FACE, tooltip="Part of the head that may change."),
                io.Float.Input(
                    "grow", default=0.0, min=-20.0, max=40.0, step=0.5, advanced=True,
                    tooltip="Widens (or narrows) the region, in percent of the face crop's side.",
                ),
                io.Float.Input(
                    "feather", default=6.0, min=0.0, max=30.0, step=0.5, advanced=True,
                    tooltip="Width of the soft rim inside the region's outline, in percent of the face crop's side.",
                ),
                io.Combo.Input(
                    "memory", options=list(MEMORY), default="normal", advanced=True,
                    tooltip="low: parts of model and VAE are computed again for the gradient. Slower, same result up to "
                    "rounding. auto: low where too little is free.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=False,
                    tooltip="Of the first push and of the changes to survive. The same seed gives the same result.",
                ),
                io.Boolean.Input(
                    "require_protection", default=True,
                    tooltip="Stop with an error when a face stays recognisable to the connected recognisers.",
                ),
                io.Boolean.Input(
                    "keep_best_on_cancel", default=False, advanced=True,
                    tooltip="On: cancel ends the search and goes on with the best found so far. Off: cancel stops all.",
                ),
                io.Int.Input(
                    "attempts", default=DEFAULTS.attempts, min=1, max=10, optional=True, advanced=True,
                    tooltip="How often faces are attacked that the recognisers do not clearly miss yet, each time with less "
                    "regard for fidelity (1.5 dB) and change weight.",
                ),
                io.Float.Input(
                    "fidelity", default=DEFAULTS.fidelity, min=0.0, max=MAX_FIDELITY, step=0.5, optional=True,
                    tooltip="Least likeness of the face crop to the original in decibels (PSNR). Higher changes less and "
                    "protects less; 0 is no limit.",
                ),
                io.Float.Input(
                    "perceptual_weight", default=DEFAULT_WEIGHTS.perceptual, min=0.0, max=100.0, step=0.01, optional=True,
                    advanced=True, tooltip="Weight of looking like the original to a network that agrees with people (LPIPS).",
                ),
                io.Image.Input(
                    "target", optional=True,
                    tooltip="One picture of one person whom the recognisers shall take every face for, instead of nobody in "
                    "particular. Needs the acknowledgement.",
                ),
                io.Boolean.Input(
                    "target_consents", default=False, optional=True, advanced=True,
                    tooltip="I have the consent of the person in the target picture, and will not use the result to "
                    "deceive. Without it a target is refused.",
                ),
                io.Int.Input(
                    "depth", default=DEFAULT_DEPTH, min=1, max=len(GRID_SIGMAS), optional=True, advanced=True,
                    tooltip="How many noise levels the latent is taken up before it is attacked; the paper takes 3. Deeper is "
                    "slower and did not protect better.",
                ),
                io.Boolean.Input(
                    "short_gradient", default=False, optional=True, advanced=True,
                    tooltip="Take the gradient around the model: less memory and time. It is compared with the full one first, "
                    "and refused where it leads elsewhere.",
                ),
                io.Image.Input(
                    "original", optional=True,
                    tooltip="The pictures that Face Mask saw, when 'image' shows the same faces with other looks (Hide): "
                    "recognisers shall know every face as the one at its place there, rather than not know it.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The cloaked pictures; outside the region every pixel is the original's."),
                io.Latent.Output(
                    "latent",
                    tooltip="The attacked latents, for SamplerCustom with add_noise off, cfg 1, euler and the sigmas beside.",
                ),
                io.Conditioning.Output("conditioning", tooltip="What the model is told at every level, for that sampler."),
                io.Sigmas.Output("sigmas", tooltip="The levels that sampler goes down."),
                CropsType.Output("crops", tooltip="Where the crops lie."),
                io.Image.Output(
                    "plot",
                    tooltip="Similarity to the original (with a target: to it) over the iterations, mean over the faces, one "
                    "curve for each recogniser in the order of the report.",
                ),
                io.String.Output("report", tooltip="Similarities and limits of every face."),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: io.Model.Type, vae: io.Vae.Type, image: io.Image.Type, faces: Faces,
        recognizers: tuple[FaceRecognizer, ...], positive: list, size: int, iterations: int, learning_rate: float,
        attack_weight: float, change_weight: float, structure_weight: float, margin: float, robust: bool,
        learned_empty: bool, schedule: str, region: str, grow: float, feather: float, memory: str, seed: int,
        require_protection: bool, keep_best_on_cancel: bool, attempts: int = DEFAULTS.attempts,
        fidelity: float = DEFAULTS.fidelity or 0.0, perceptual_weight: float = DEFAULT_WEIGHTS.perceptual,
        target: io.Image.Type | None = None, target_consents: bool = False, depth: int = DEFAULT_DEPTH,
        short_gradient: bool = False, original: io.Image.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if len(faces) == 0:
            raise NoFaceError("Expected at least one face to cloak, got none. Check the Face Mask settings.")
        if not recognizers:
            raise InputError("Expected at least one face recogniser, got none. Connect Load Face Recognizers.")
        whom, aim = None, Aim.DODGE
        if target is not None and original is not None:
            raise InputError("Expected a target or the originals, got both. Disconnect one of them.")
        if target is not None:
            check_acknowledged(target_consents)
            whom, aim = find_target(recognizers, target), Aim.IMPERSONATE
        if original is not None:
            whom, aim = find_persons(recognizers, original, image, faces), Aim.KEEP
        settings = CloakSettings(
            levels=GRID_SIGMAS[:depth],
            shift=SCHEDULES[schedule],
            empty=EmptySettings(EmptyCondition.LEARNED if learned_empty else EmptyCondition.FIXED),
            attack=AttackSettings(iterations, learning_rate),
            weights=Weights(attack_weight, structure_weight, change_weight, perceptual_weight),
            fidelity=fidelity or None,
            transforms=TransformSettings() if robust else None,
            margin=margin,
            aim=aim,
            acknowledged=target_consents,
            seed=seed,
            mask=MaskSettings(Region(region), grow, feather),
            truncated_gradient=short_gradient or None,
            checkpoint=chosen_memory(memory, vae, size, len(faces)) == "low",
            attempts=attempts,
            require_protection=require_protection,
        )
        images, names = _convert.image_to_core(image), [recognizer.name for recognizer in recognizers]
        view = AttackView(model, names, thresholds(recognizers), getattr(cls.hidden, "unique_id", None))

        def cloak(told: HostModel) -> CloakResult:
            looks = load_perceptual(_host.model_dirs(), told.device) if perceptual_weight > 0.0 else None
            return cloak_faces(
                images, faces, told, recognizers, settings, target=whom, perceptual=looks, progress=view.step,
                watch=view.watch,
                keep_best_on_cancel=(CANCEL,) if keep_best_on_cancel else (),
            )  # fmt: skip

        result = with_model(cloak, model, vae, positive, size, len(faces), low_memory=settings.checkpoint)
        return io.NodeOutput(
            _convert.core_to_image(result.images),
            to_latent(model, result, settings.shift),
            to_conditioning(model, result, positive, settings),
            levels_of(model).of_host(finishing_sigmas(result.levels, settings.shift)),
            result.crops,
            plot(result, names),
            view.finish(result, faces, aim),
        )


SAME_SURROUNDINGS = 0.02
"""Mean difference outside the heads up to which two pictures are of the same place."""


def find_persons(recognizers: Sequence[FaceRecognizer], original: Tensor, image: Tensor, faces: Faces) -> Identities:
    """Find who the faces are in the pictures they come from, and check that these are the pictures: a recogniser still knows
    the face, or, where somebody else was drawn, everything around the faces is the same.

    Raises:
        InputError: The pictures differ in size or number, or some face is another person to every recogniser and stands in
            another picture.
    """
    if original.shape != image.shape:
        raise InputError(
            f"Expected originals of the shape of the pictures, {tuple(image.shape)}, got {tuple(original.shape)}. Connect the "
            "pictures that went into Face Mask."
        )
    device = _host.compute_device()
    before, after = (
        see_faces(recognizers, _convert.image_to_core(pictures).clone().to(device), faces) for pictures in (original, image)
    )
    similarities = before.similarities(after.vectors, torch.arange(len(faces))).cpu()
    strangers = (similarities < thresholds(recognizers)).all(dim=1)
    around = 1.0 - draw_masks(faces, MaskSettings(Region.HEAD))[..., None]
    change = ((original.cpu() - image.cpu()).abs() * around).sum((1, 2, 3)) / (3.0 * around.sum((1, 2, 3))).clamp(min=1.0)
    elsewhere = torch.tensor([bool(change[face.image_index] > SAME_SURROUNDINGS) for face in faces.items])
    if bool((strangers & elsewhere).any()):
        raise InputError(
            f"Expected the pictures that the faces come from, got face {int((strangers & elsewhere).nonzero()[0])} in other "
            "surroundings, which all recognisers take for another person than in the originals. Connect the pictures that went "
            "into Face Mask, or use a target with consent."
        )
    return before


def find_target(recognizers: Sequence[FaceRecognizer], image: Tensor) -> Identities:
    """Find who the only person in a target picture is.

    Raises:
        NoFaceError, InputError: There is not exactly one picture with one face.
    """
    pictures = _convert.image_to_core(image).clone()
    found = [_convert.image_to_uint8(picture) for picture in pictures]
    faces = detect_faces(found, load_detector(_host.model_dirs()), Selection(Which.ALL))
    return see_target(recognizers, pictures.to(_host.compute_device()), faces)
