"""Spoiled files of every kind: an answer or an error of the pack, in little time and memory.

The environment variable FACEPRIVACY_FUZZ sets how many of each kind; without it there are few, and a budget of time.
"""

from __future__ import annotations

import math
import os
import random
import warnings
from pathlib import Path

import pytest

from faceprivacy_core.picture_files import read_picture_file
from tests.support import fuzzing
from tests.support.fuzz_targets import PICTURES, TARGETS, Target
from tests.support.fuzzing import MAX_SECONDS, fuzz
from tests.support.spoiling import spoil

IS_LONG = "FACEPRIVACY_FUZZ" in os.environ
INPUTS = int(os.environ.get("FACEPRIVACY_FUZZ", "150"))
SECONDS = math.inf if IS_LONG else 10.0


@pytest.mark.parametrize("name", TARGETS)
def test_no_spoiled_file_raises_anything_foreign_or_costs_much(name: str):
    fuzzing.be_quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tally = fuzz(name, INPUTS, seconds=SECONDS)
    tried = tally.answered + tally.refused
    assert tried == INPUTS or (tried > 0 and not IS_LONG)
    assert tally.slowest < MAX_SECONDS


def test_sound_files_are_read_and_spoiled_ones_are_of_both_kinds():
    """Otherwise the test above would show nothing."""
    for name in ("picture png", "picture jpeg", "picture tiff", "key"):
        tally = fuzz(name, 300)
        assert tally.answered > 5, name
        assert tally.refused > 5, name
    numbers, seeds = random.Random(0), TARGETS["picture png"].seeds()
    assert all(spoil(seed, seeds, numbers) for seed in seeds)


def test_what_leads_to_new_lines_is_spoiled_further(monkeypatch: pytest.MonkeyPatch):
    """Three bytes that have to be right one after the other are found; by chance alone they are not."""
    found = []

    def read(path: Path) -> None:
        if _depth(path.read_bytes()) == 3:
            found.append(path)

    monkeypatch.setattr(fuzzing, "PACK", __file__)
    monkeypatch.setitem(fuzzing.TARGETS, "deep", Target(lambda: [bytes(3)], read))
    assert fuzz("deep", 1500).kept >= 3
    assert found
    found.clear()
    monkeypatch.setattr(fuzzing, "MAX_KEPT", 0)
    fuzz("deep", 1500)
    assert not found


def _depth(data: bytes) -> int:
    if data[:1] != b"\xff":
        return 0
    if data[1:2] != b"\x80":
        return 1
    if data[2:3] != b"\xff":
        return 2
    return 3


def test_a_budget_of_time_ends_a_run():
    tally = fuzz("header", 10**6, seconds=0.1)
    assert 0 < tally.answered + tally.refused < 10**5


def test_a_foreign_error_is_found(monkeypatch: pytest.MonkeyPatch):
    def fragile(path: object) -> None:
        read_picture_file(path)
        raise ZeroDivisionError

    monkeypatch.setitem(fuzzing.TARGETS, "fragile", Target(PICTURES["png"], fragile, ".png"))
    with pytest.raises(ZeroDivisionError):
        fuzz("fragile", 300)
