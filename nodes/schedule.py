"""Which conditioning acts when, as stock CONDITIONING."""

from __future__ import annotations

from comfy_api.latest import io

from ..faceprivacy_core.embeddings.inversion import FaceInversion
from ..faceprivacy_core.embeddings.schedule import (
    TRAIN_STEPS,
    Source,
    StageSchedule,
    anonymise_schedule,
    recover_schedule,
)
from ..faceprivacy_core.errors import InputError
from ._types import InversionType

PRESETS = ["anonymise", "recover"]

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
            "keeps pose, hair and light, then the empty prompt lets the model draw a face of its own. Recover: the "
            "picture's embedding throughout. The output is ordinary CONDITIONING with timestep ranges.",
            search_aliases=["conditioning range", "timestep", "diff-privacy"],
            inputs=[
                io.Combo.Input("preset", options=PRESETS, tooltip="What the schedule is for."),
                io.Int.Input(
                    "switch", default=400, min=1, max=999,
                    tooltip="Timestep (of 1000) at which anonymise drops the picture's embedding. Higher drops it "
                    "sooner: more privacy, less likeness of pose and hair.",
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
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The scheduled conditioning."),
                io.Conditioning.Output("negative", tooltip="The empty condition; has no effect at cfg 1."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, preset: str, switch: int, inversion: FaceInversion | None = None,
        image_conditioning: list | None = None, empty_conditioning: list | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        schedule = anonymise_schedule(switch) if preset == "anonymise" else recover_schedule()
        if inversion is not None:
            return io.NodeOutput(to_conditioning(inversion, schedule), [[inversion.empty.clone(), {}]])
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


def to_conditioning(inversion: FaceInversion, schedule: StageSchedule) -> list:
    """Turn embeddings and a schedule into the host's conditioning list.

    Every (rule, stage) pair becomes one entry; together they cover all timesteps once.
    """
    stages = inversion.num_stages
    entries = []
    for rule in schedule.rules:
        if rule.source is Source.EMPTY:
            entries.append([inversion.empty.clone(), percent_range(rule.high, rule.low)])
            continue
        for stage in reversed(range(stages)):
            low, high = TRAIN_STEPS * stage / stages, TRAIN_STEPS * (stage + 1) / stages
            low, high = max(low, rule.low), min(high, rule.high)
            if low < high:
                entries.append([inversion.stages[stage].clone(), percent_range(high, low)])
    return entries


def percent_range(high: float, low: float) -> dict[str, float]:
    """Translate timesteps low <= t < high into the host's start and end percent."""
    last = TRAIN_STEPS - 1
    start = 0.0 if high >= TRAIN_STEPS else 1.0 - high / last + 2 * GAP
    return {"start_percent": start, "end_percent": 1.0 if low <= 0 else 1.0 - low / last + GAP}
