"""Spoiled files of every kind: an answer or an error of the pack, in little time and memory.

The environment variable FACEPRIVACY_FUZZ sets how many of each kind; `tests/support/fuzzing.py` has the rest.
"""

from __future__ import annotations

import os
import random
import warnings

import pytest

from faceprivacy_core.picture_files import read_picture_file
from tests.support import fuzzing
from tests.support.fuzzing import MAX_SECONDS, TARGETS, Target, fuzz
from tests.support.spoiling import spoil

INPUTS = int(os.environ.get("FACEPRIVACY_FUZZ", "150"))


@pytest.mark.parametrize("name", TARGETS)
def test_no_spoiled_file_raises_anything_foreign_or_costs_much(name: str):
    fuzzing.be_quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tally = fuzz(name, INPUTS)
    assert tally.answered + tally.refused == INPUTS
    assert tally.slowest < MAX_SECONDS


def test_sound_files_are_read_and_spoiled_ones_are_of_both_kinds():
    """Otherwise the test above would show nothing."""
    for name in ("picture png", "picture jpeg", "picture tiff", "key"):
        tally = fuzz(name, 300)
        assert tally.answered > 5, name
        assert tally.refused > 5, name
    numbers, seeds = random.Random(0), TARGETS["picture png"].seeds()
    assert all(spoil(seed, seeds, numbers) for seed in seeds)


def test_a_foreign_error_is_found(monkeypatch: pytest.MonkeyPatch):
    def fragile(path: object) -> None:
        read_picture_file(path)
        raise ZeroDivisionError

    monkeypatch.setitem(fuzzing.TARGETS, "fragile", Target(fuzzing.PICTURES["png"], fragile, ".png"))
    with pytest.raises(ZeroDivisionError):
        fuzz("fragile", 300)
