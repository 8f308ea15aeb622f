"""Cloaking and hiding in one node each: pictures in, changed pictures out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..faceprivacy_core.anonymize import Look
from ..faceprivacy_core.cloak import CloakSettings, cloak_faces
from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.people import People
from ..faceprivacy_core.faces.select import Which
from ..faceprivacy_core.hide import HideSettings, hide_faces
from ..faceprivacy_core.masks import MaskSettings, Region
from ..faceprivacy_core.metrics.draw import Wish
from ..faceprivacy_core.metrics.perceptual import load_perceptual
from ..faceprivacy_core.protect import DrawingTools
from ..faceprivacy_core.protocols import Progress
from ..faceprivacy_core.regenerate import FACES_AT_A_TIME
from ..faceprivacy_core.types import Faces
from . import _convert, _host, _measuring
from ._language import WritesReports
from ._no_face import apply_policy
from ._one_step import choose_faces, choosing_inputs, last_inputs, load_tools, outputs, person_input, policy_input

Change = Callable[[Tensor, Faces, DrawingTools, Progress], tuple[Tensor, Tensor]]
"""Receives (B, 3, H, W) in [0, 1], faces, networks and progress, returns pictures and mask."""


class CloakFaces(WritesReports, io.ComfyNode):
    """Find faces, cloak them, and measure what that achieved.

    Core: `faceprivacy_core.cloak.cloak_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = CloakSettings()
        return io.Schema(
            node_id="FacePrivacy_CloakFaces",
            display_name="Cloak Faces (Face Privacy)",
            category="face privacy",
            description="Changes every face a little, so that people still know it and face recognisers do not. Protects from "
            "machines, not from people, and not from every machine; the report asks recognisers that were not used.",
            search_aliases=["cloak", "fawkes", "adversarial", "dodge face recognition", "protect face"],
            inputs=[
                io.Image.Input("image", tooltip="RGB pictures of any size."),
                *choosing_inputs(),
                policy_input(),
                io.Int.Input("iterations", default=default.attack.iterations, min=1, max=500, tooltip="Updates of every face."),
                io.Float.Input(
                    "fidelity", default=default.fidelity, min=24.0, max=45.0, step=0.5,
                    tooltip="Least likeness of a face to the original, in decibels. Higher is nearer to the photo and protects "
                    "less; it is lowered where a face stays recognisable.",
                ),
                io.Boolean.Input(
                    "accept_unprotected", default=False,
                    tooltip="Go on with a face that a recogniser it was protected against still knows. Off: an error.",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**53 - 1, control_after_generate=True, tooltip="Repeats a result."),
                io.Combo.Input(
                    "region", options=Region, default=default.mask.region, advanced=True,
                    tooltip="Part of the head that may change.",
                ),
                *last_inputs(),
                person_input(),
            ],
            outputs=outputs(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, which: str, numbers: str, on_no_face: str, iterations: int, fidelity: float,
        accept_unprotected: bool, seed: int, region: str, confidence: float, measure: bool,
        reference: io.Image.Type | None = None, missed: io.Mask.Type | None = None, person: tuple[People, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        default = CloakSettings()
        settings = replace(
            default, attack=replace(default.attack, iterations=iterations), fidelity=fidelity, seed=seed,
            mask=replace(default.mask, region=Region(region)), require_protection=not accept_unprotected,
        )  # fmt: skip

        def change(images: Tensor, faces: Faces, tools: DrawingTools, progress: Progress) -> tuple[Tensor, Tensor]:
            perceptual = load_perceptual(_host.model_dirs())
            result = cloak_faces(
                images, faces, tools.model, tools.recognizers, settings, perceptual=perceptual, progress=progress
            )  # fmt: skip
            return result.images, result.mask

        return run_in_one(
            image, which, numbers, on_no_face, confidence, measure, reference, missed, person, change, Wish.UNKNOWN
        )  # fmt: skip


class ChangeLooks(WritesReports, io.ComfyNode):
    """Find faces, change their looks alone, and measure what that achieved.

    Core: `faceprivacy_core.hide.hide_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = HideSettings()
        return io.Schema(
            node_id="FacePrivacy_ChangeLooks",
            display_name="Change Looks, Keep Identity (Face Privacy)",
            category="face privacy",
            description="Gives every face other looks, while face recognisers still know the person. Protects from people, NOT "
            "from machines: in the report a high similarity is what is wanted.",
            search_aliases=["visual identity", "hide identity", "diff-privacy"],
            inputs=[
                io.Image.Input("image", tooltip="RGB pictures of any size."),
                *choosing_inputs(),
                policy_input(),
                io.Float.Input(
                    "noise", default=default.noise, min=0.05, max=1.0, step=0.05,
                    tooltip="How far into noise a face is taken while it is drawn.",
                ),
                io.Float.Input(
                    "strength", default=default.strength, min=0.0, max=10.0, step=0.05,
                    tooltip="How hard the identity is held while the person's own look is drawn.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=True, tooltip="Another seed, other looks."
                ),
                io.Float.Input(
                    "look_different", default=default.look_different, min=0.0, max=5.0, step=0.05, advanced=True,
                    tooltip="Above 0, updates keep near the drawn face; with the person's own look, a push away from it.",
                ),
                io.Int.Input(
                    "refine", default=default.refine, min=0, max=200, advanced=True,
                    tooltip="Updates after drawing that let recognisers see the person. With 0 they do not, if somebody else's "
                    "look was drawn.",
                ),
                io.Combo.Input(
                    "look", options=Look, default=default.look, advanced=True,
                    tooltip="Whose look is drawn first: a generated person's, or the person's own while the identity is held, "
                    "as published (then set noise 0.95 and strength 0.5).",
                ),
                io.Int.Input("steps", default=default.steps, min=2, max=200, advanced=True, tooltip="Of drawing the faces."),
                io.Combo.Input(
                    "region", options=Region, default=default.mask.region, advanced=True,
                    tooltip="Part of the head that is replaced.",
                ),
                *last_inputs(),
                person_input(),
            ],
            outputs=outputs(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, which: str, numbers: str, on_no_face: str, noise: float, strength: float, seed: int,
        look_different: float, refine: int, look: str, steps: int, region: str, confidence: float, measure: bool,
        reference: io.Image.Type | None = None, missed: io.Mask.Type | None = None, person: tuple[People, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        make = HideSettings if look == Look.DONOR else HideSettings.published
        settings = make(
            steps=steps, noise=noise, strength=strength, seed=seed, micro_batch=FACES_AT_A_TIME, look_different=look_different,
            refine=refine, mask=MaskSettings(Region(region)),
        )  # fmt: skip

        def change(images: Tensor, faces: Faces, tools: DrawingTools, progress: Progress) -> tuple[Tensor, Tensor]:
            result = hide_faces(
                images, faces, tools.model, tools.recognizers, settings, detector=tools.detector,
                perceptual=lambda: load_perceptual(_host.model_dirs()), progress=progress,
            )  # fmt: skip
            return result.images, result.mask

        return run_in_one(
            image, which, numbers, on_no_face, confidence, measure, reference, missed, person, change, Wish.KNOWN
        )  # fmt: skip


def run_in_one(
    image: io.Image.Type, which: str, numbers: str, on_no_face: str, confidence: float, measure: bool,
    reference: io.Image.Type | None, missed: io.Mask.Type | None, person: tuple[People, ...], change: Change, wish: Wish,
) -> io.NodeOutput:  # fmt: skip
    """Find and choose faces, change them, and measure."""
    images = _convert.image_to_core(image)
    detector = load_detector(_host.model_dirs(), min_confidence=confidence)
    faces = choose_faces(images, detector, Which(which), numbers, reference, missed, person)
    originals = images.clone()
    pictures = [_convert.image_to_uint8(one) for one in images]
    apply_policy(images, pictures, faces, on_no_face, is_choice=which != Which.ALL)
    mask = torch.zeros_like(images[:, :1])
    with torch.inference_mode(False):
        images = images.clone()
        if len(faces):
            images, mask = change(images, faces, load_tools(detector), _host.HostProgress(1))
        measured = _measuring.measure(originals.clone(), images, mask, faces, detector, wish=wish) if measure else None
    protected = _convert.core_to_image(images)
    text, drawn = measured or (_measuring.as_json([{"faces": len(faces.of_image(i))} for i in range(len(images))]), protected)
    return io.NodeOutput(
        protected, _convert.core_to_mask(mask), faces, text, drawn, ui=ui.PreviewImage(protected)
    )  # fmt: skip
