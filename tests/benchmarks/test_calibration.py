"""Calibration from a folder of pairs: thresholds, rates and intervals with known answers, and what the file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration_statistics import (
    Pairs,
    misses_at,
    pair_up,
    rate_at,
    rate_interval,
    threshold_at,
    threshold_interval,
)
from benchmarks.pairs import find_pairs, read_people
from benchmarks.splits import Part


def people_of(count: int, photos: int, seed: int = 0, spread: float = 0.5) -> Pairs:
    """Random people in 64 dimensions, each photo some way off the person."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.standard_normal((count, 64)), photos, axis=0)
    vectors = centres + spread * generator.standard_normal(centres.shape)
    return pair_up(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.repeat(np.arange(count), photos))


def test_every_pair_counts_once_and_genuine_ones_are_those_of_one_person():
    pairs = people_of(10, 3)
    assert len(pairs.similarities) == 30 * 29 // 2
    assert len(pairs.genuine) == 10 * 3
    assert pairs.genuine.min() > pairs.impostors.mean()


@pytest.mark.parametrize("fmr", [0.01, 0.001])
def test_at_the_threshold_no_more_strangers_match_than_were_asked_for(fmr: float):
    impostors = people_of(60, 2).impostors
    threshold = threshold_at(impostors, fmr)
    assert rate_at(impostors, threshold) <= fmr < rate_at(impostors, np.sort(impostors)[-int(fmr * len(impostors)) - 2])
    assert misses_at(np.array([threshold, threshold - 0.01]), threshold) == 0.5


def test_the_interval_holds_the_threshold_and_that_of_new_people_nineteen_times_of_twenty():
    truth = threshold_at(people_of(1500, 2, seed=99).impostors, 0.01)
    inside = 0
    for seed in range(40):
        pairs = people_of(40, 2, seed)
        low, high = threshold_interval(pairs, 0.01, draws=200)
        assert low <= threshold_at(pairs.impostors, 0.01) <= high
        inside += low <= truth <= high
    assert inside >= 32  # 38 are expected of 40; fewer than 32 come about less than once in 1,000 times


def test_an_interval_of_few_people_is_wider_than_that_of_many():
    widths = []
    for count in (20, 150):
        low, high = rate_interval(people_of(count, 2), 0.25, genuine=False, draws=200)
        assert low <= rate_at(people_of(count, 2).impostors, 0.25) <= high
        widths.append(high - low)
    assert widths[1] < widths[0]
    assert rate_interval(people_of(20, 2), -1.0, genuine=True, draws=50) == (0.0, pytest.approx(3 / 20, abs=0.02))


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_people_of_a_folder_are_split_in_halves_that_share_nobody(tmp_path: Path):
    names = [f"{person:03}_{photo}.jpg" for person in range(5) for photo in (0, 1)]
    folder = folder_of(tmp_path, *names, "alone_0.jpg", "notes_1.txt", "nobody.png")
    assert list(read_people(folder)) == ["000", "001", "002", "003", "004"]
    tuning, test = find_pairs(folder, 2, Part.TUNING), find_pairs(folder, 3)
    assert [(a.name, b.name) for a, b in tuning] == [("000_0.jpg", "000_1.jpg"), ("001_0.jpg", "001_1.jpg")]
    assert not {a for a, _ in tuning} & {a for a, _ in test}
    with pytest.raises(SystemExit, match="Expected 4 people of the test half"):
        find_pairs(folder, 4)


def test_a_folder_that_is_none_of_pairs_is_refused(tmp_path: Path):
    for folder in (tmp_path / "gone", folder_of(tmp_path, "a_0.jpg", "b_0.jpg")):
        with pytest.raises(SystemExit, match=r"named PERSON_NUMBER\.jpg"):
            read_people(folder)
