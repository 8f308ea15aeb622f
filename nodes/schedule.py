"""Which conditioning acts when, as stock CONDITIONING."""

from __future__ import annotations

from collections.abc import Mapping

from comfy_api.latest import io
from torch import Tensor

from ..faceprivacy_core.embeddings.inversion import FaceInversion
from ..faceprivacy_core.embeddings.schedule import (
    TRAIN_STEPS,
    Source,
    StageSchedule,
    anonymise_schedule,
    hide_schedule,
    parse_schedule,
    recover_schedule,
)
from ..faceprivacy_core.errors import InputError
from ._types import InversionType

PRESETS = ["anonymise", "recover", "hide", "custom"]

GAP = 1e-6
"""Fraction by which a range reaches past its last timestep, and by which the next begins after that.

The host counts both ends as inside and computes levels in float32, so without the first gap the
boundary level may lie outside both ranges, and without the second inside both."""


class EmbeddingSchedule(io.ComfyNode):
    """Let the picture's embedding act at high noise and the empty prompt afterwards.

    Core: `faceprivacy_core.embeddings.schedule`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_EmbeddingSchedule",
            display_name="Embedding Schedule (Face Privacy)",
            category="face privacy/conditioning",
            description="Embedding schedule of Diff-Privacy. Anonymise: the picture's embedding while noise is high "
            "keeps pose, hair and light, then the empty prompt lets the model draw a face of its own. Hide: the same, from "
            "more noise. Recover: the picture's embedding throughout. Custom: your own ranges. The output is ordinary "
            "CONDITIONING with timestep ranges.",
            search_aliases=["conditioning range", "timestep", "diff-privacy"],
            inputs=[
                io.Combo.Input("preset", options=PRESETS, tooltip="What the schedule is for."),
                io.Int.Input(
                    "switch", default=0, min=0, max=999,
                    tooltip="Timestep (of 1000) at which anonymise and hide drop the picture's embedding. Higher drops it "
                    "sooner: more privacy, less likeness of pose and hair. 0 is the preset's own: 400 for anonymise, 600 "
                    "for hide.",
                ),
                InversionType.Input(
                    "inversion", optional=True, tooltip="From MSI Inversion. Leave open to give CONDITIONING instead."
                ),
                io.Conditioning.Input(
                    "image_conditioning", optional=True,
                    tooltip="Used instead of an inversion: describes the picture, e.g. an encoded prompt.",
                ),
                io.Conditioning.Input(
                    "empty_conditioning", optional=True, tooltip="Used with image_conditioning: the encoded empty prompt."
                ),
                io.String.Input(
                    "ranges", default="1000-400 image, 400-0 empty", optional=True,
                    tooltip="For custom: ranges of timesteps from 1000 down to 0, each with image or empty.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The scheduled conditioning."),
                io.Conditioning.Output("negative", tooltip="The empty condition; has no effect at cfg 1."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, preset: str, switch: int, inversion: FaceInversion | None = None,
        image_conditioning: list | None = None, empty_conditioning: list | None = None, ranges: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        schedule = chosen_schedule(preset, switch, ranges)
        if inversion is not None:
            return io.NodeOutput(to_conditioning(inversion, schedule), to_empty_conditioning(inversion))
        if image_conditioning is None or empty_conditioning is None:
            raise InputError(
                "Expected either an inversion, or both image_conditioning and empty_conditioning. Connect MSI Inversion, "
                "or two CLIP Text Encode nodes (the second with an empty prompt)."
            )
        sources = {Source.IMAGE: image_conditioning, Source.EMPTY: empty_conditioning}
        positive = [
            [tokens, {**options, **percent_range(rule.high, rule.low)}]
            for rule in schedule.rules
            for tokens, options in sources[rule.source]
        ]
        return io.NodeOutput(positive, empty_conditioning)


def chosen_schedule(preset: str, switch: int, ranges: str) -> StageSchedule:
    """Return the schedule of the node's widgets."""
    if preset == "custom":
        return parse_schedule(ranges)
    if preset == "recover":
        return recover_schedule()
    make = anonymise_schedule if preset == "anonymise" else hide_schedule
    return make(switch) if switch else make()


def to_conditioning(inversion: FaceInversion, schedule: StageSchedule) -> list:
    """Turn embeddings and a schedule into the host's conditioning list.

    Every (rule, stage) pair becomes one entry; together they cover all timesteps once.
    """
    stages = inversion.num_stages
    entries = []
    for rule in schedule.rules:
        if rule.source is Source.EMPTY:
            entries.append(_entry(inversion.empty, inversion.empty_pooled, percent_range(rule.high, rule.low)))
            continue
        for stage in reversed(range(stages)):
            low, high = TRAIN_STEPS * stage / stages, TRAIN_STEPS * (stage + 1) / stages
            low, high = max(low, rule.low), min(high, rule.high)
            if low < high:
                pooled = None if inversion.pooled is None else inversion.pooled[stage]
                entries.append(_entry(inversion.stages[stage], pooled, percent_range(high, low)))
    return entries


def to_empty_conditioning(inversion: FaceInversion) -> list:
    """Turn the empty condition of an inversion into the host's conditioning list."""
    return [_entry(inversion.empty, inversion.empty_pooled)]


def _entry(condition: Tensor, pooled: Tensor | None, options: Mapping[str, float] | None = None) -> list:
    """Make one entry of CONDITIONING: the condition and, for SDXL, its pooled part."""
    return [condition.clone(), {**(options or {}), **({} if pooled is None else {"pooled_output": pooled.clone()})}]


def percent_range(high: float, low: float) -> dict[str, float]:
    """Translate timesteps low <= t < high into the host's start and end percent."""
    last = TRAIN_STEPS - 1
    start = 0.0 if high >= TRAIN_STEPS else 1.0 - high / last + 2 * GAP
    return {"start_percent": start, "end_percent": 1.0 if low <= 0 else 1.0 - low / last + GAP}
