"""Who may choose a setting and who only judges. This is the one place that says so.

Recognisers, generated faces and the people of a folder of pairs are each split. A setting is chosen with surrogates,
validation recognisers and tuning faces; a published figure is read off test recognisers and test faces, which no setting
has seen. Settings chosen before the splits existed cite "held-out decisions": those recognisers now validate, FaceNet
apart, which judged them, too, on faces 1000 to 1011. These faces tune; FaceNet is the only shipped recogniser that is no
relative of a surrogate, so its figures are on faces that no setting has seen, but not on a recogniser that none has.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES

SURROGATES = DEFAULT_SURROGATES
"""Recognisers that methods differentiate."""

VALIDATION = ("mobilefacenet-masked", "mobilefacenet-foamliu")
"""Recognisers that may choose settings. Relatives of a surrogate, which is why they prove little."""

TEST = ("facenet-casia",)
"""Recognisers that published figures are read off, and nothing else."""

TEST_IF_PLACED = ("arcface-w600k-mbf", "arcface-w600k-r50")
"""A second family for whoever may use its files: not for commercial use, so nothing here fetches them."""

TUNING_SEEDS = range(1000, 1064)
"""Generated faces that may choose settings."""

TEST_SEEDS = range(1064, 1400)
"""Generated faces of published figures."""


class Part(str, Enum):
    """What faces are for."""

    TUNING = "tuning"
    TEST = "test"


def split_people(people: Sequence[str], part: Part) -> list[str]:
    """Return the people of a folder of pairs who belong to a part: the first half in order of names tunes."""
    ordered = sorted(set(people))
    half = len(ordered) // 2
    return ordered[:half] if part is Part.TUNING else ordered[half:]


def generated_faces(folder: Path, part: Part) -> list[Path]:
    """List the generated faces of a part that are in a folder, by seed."""
    seeds = TUNING_SEEDS if part is Part.TUNING else TEST_SEEDS
    return [path for path in (folder / f"{seed}.jpg" for seed in seeds) if path.is_file()]
