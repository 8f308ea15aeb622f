"""Which conditioning acts at which noise level."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from ..errors import InputError

TRAIN_STEPS = 1000
NUM_STAGES = 10
ANONYMISE_SWITCH = 400.0
HIDE_SWITCH = 600.0

_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s+(image|empty)")


class Source(str, Enum):
    """Where a rule takes its conditioning from."""

    IMAGE = "image"
    EMPTY = "empty"


@dataclass(frozen=True)
class Rule:
    """One span of timesteps and its conditioning.

    Attributes:
        high: Upper timestep bound, exclusive unless it is the schedule's end.
        low: Lower timestep bound, inclusive.
        source: `image` for the stage embeddings of the picture, `empty` for the empty
            prompt.
    """

    high: float
    low: float
    source: Source


@dataclass(frozen=True)
class StageSchedule:
    """Rules that cover timesteps from high noise to low noise, without gap or overlap.

    Source: Diff-Privacy (arXiv 2309.05330), embedding scheduling.
    """

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise InputError("Expected at least one rule in an embedding schedule, got none.")
        for rule in self.rules:
            if not 0 <= rule.low < rule.high <= TRAIN_STEPS:
                raise InputError(f"Expected 0 <= low < high <= {TRAIN_STEPS}, got low {rule.low}, high {rule.high}.")
        for upper, lower in zip(self.rules[:-1], self.rules[1:], strict=True):
            if upper.low != lower.high:
                raise InputError(f"Expected rules without gap or overlap, got {upper.low} above {lower.high}.")

    def source_at(self, timestep: float) -> Source:
        """Return the conditioning's source at a timestep; levels above the first rule use it."""
        for rule in self.rules:
            if timestep >= rule.low:
                return rule.source
        return self.rules[-1].source


def stage_of(timestep: float, num_stages: int = NUM_STAGES) -> int:
    """Return the stage of a timestep: 0 almost clean, num_stages - 1 almost pure noise."""
    return min(int(num_stages * timestep / TRAIN_STEPS), num_stages - 1)


def image_then_empty(switch: float) -> StageSchedule:
    """Picture first, then the empty prompt: layout is kept, the face is the prior's.

    Args:
        switch: Timestep at which the picture's embedding is dropped, in (0, 1000).
    """
    return StageSchedule((Rule(TRAIN_STEPS, switch, Source.IMAGE), Rule(switch, 0, Source.EMPTY)))


def anonymise_schedule(switch: float = ANONYMISE_SWITCH) -> StageSchedule:
    """The paper's schedule for anonymising, which starts at timestep 600."""
    return image_then_empty(switch)


def hide_schedule(switch: float = HIDE_SWITCH) -> StageSchedule:
    """The paper's schedule for hiding the visual identity, which starts at timestep 800."""
    return image_then_empty(switch)


def recover_schedule() -> StageSchedule:
    """The picture's embeddings at every level."""
    return StageSchedule((Rule(TRAIN_STEPS, 0, Source.IMAGE),))


def parse_schedule(text: str) -> StageSchedule:
    """Read a schedule that a person wrote.

    Args:
        text: Ranges of timesteps from high to low with their source, separated by commas or
            line ends: "1000-600 image, 600-350 empty, 350-0 image". They start at 1000, end at
            0, and leave no gap.

    Raises:
        InputError: A range cannot be read, or ranges leave gaps or overlap.
    """
    entries = [entry for entry in re.split(r"[,;\n]", text) if entry.strip()]
    rules = []
    for entry in entries:
        found = _RANGE.fullmatch(entry.strip().lower())
        if found is None:
            raise InputError(f"Expected ranges like '1000-600 image' or '600-0 empty', got {entry.strip()!r}.")
        rules.append(Rule(float(found[1]), float(found[2]), Source(found[3])))
    if not rules or rules[0].high != TRAIN_STEPS or rules[-1].low != 0:
        raise InputError(f"Expected ranges from {TRAIN_STEPS} down to 0, such as '1000-400 image, 400-0 empty', got {text!r}.")
    return StageSchedule(tuple(rules))
