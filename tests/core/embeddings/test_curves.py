"""Plots have axes: named, with round numbers where their values lie, and a name for every curve."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from faceprivacy_core.embeddings.curves import BOTTOM, LEFT, PALE, RIGHT, TOP, Axes, draw_curves, round_values

AXES = Axes("iteration", "similarity", ["a", "b"])
BLUE, RED = (0, 9, 217), (217, 0, 0)


def drawn(history: torch.Tensor, axes: Axes = AXES) -> np.ndarray:
    return np.asarray(draw_curves(history, axes))


def rows_of(picture: np.ndarray, colour: tuple[int, ...]) -> list[int]:
    """Return the rows within the frame in which a colour fills most of the width."""
    inside = (picture[TOP + 1 : -BOTTOM - 1, LEFT + 1 : -RIGHT - 1] == colour).all(axis=2)
    return [int(row) + TOP + 1 for row in np.flatnonzero(inside.mean(axis=1) > 0.6)]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.2, 1.01), (-0.31, 1.4), (0.99, 1.01), (0, 1), (0, 7), (0, 487), (3, 2e6)]
)
def test_numbers_on_an_axis_are_round_and_cover_it(low: float, high: float):
    values = round_values(low, high)
    steps = {round(second - first, 9) for first, second in itertools.pairwise(values)}
    assert 3 <= len(values) <= 8
    assert low - 1e-9 <= min(values) < low + max(steps)
    assert high - max(steps) < max(values) <= high + 1e-9
    assert len(steps) == 1
    assert f"{steps.pop():.0e}"[0] in "125"


def test_a_curve_lies_at_its_number():
    """Two stay at 1 and at 0.6, a third falls to 0.5 at its end: lines at 0.9, 0.8 and 0.7 are seen between the first two."""
    values = torch.tensor([1.0, 0.6, 0.6]).repeat(100, 1)
    values[0], values[-1, 2] = 1.0, 0.5
    picture = drawn(values[..., None], Axes("iteration", "similarity", ["a", "b", "c"]))
    assert round_values(0.5, 1.01) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    lines, (upper, *_), (lower, *_) = rows_of(picture, PALE), rows_of(picture, BLUE), rows_of(picture, RED)
    assert len(lines) == 3
    tenth = (lines[2] - lines[0]) / 2
    assert upper == pytest.approx(lines[0] - tenth, abs=1.5)
    assert lower == pytest.approx(lines[2] + tenth, abs=1.5)


def test_axes_and_curves_have_names_outside_the_frame():
    history = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    plain = drawn(history)
    for axes, rows in (
        (Axes("update", "similarity", ["a", "b"]), slice(-BOTTOM, None)),
        (Axes("iteration", "error", ["a", "b"]), slice(None, TOP)),
        (Axes("iteration", "similarity", ["a", "c"]), slice(-BOTTOM, None)),
    ):
        changed = (drawn(history, axes) != plain).any(axis=2)
        assert changed[rows].any()
        changed[rows] = False
        assert not changed.any()


def test_one_step_is_a_picture_too_and_curves_without_names_have_numbers():
    single = drawn(torch.ones(1, 3, 2), Axes("look", "error"))
    assert single.shape == (288, 512, 3)
    assert np.array_equal(single, drawn(torch.ones(1, 3, 2), Axes("look", "error", ["0", "1", "2"])))
    with pytest.raises(ValueError, match="zip"):
        drawn(torch.ones(2, 3, 2))
