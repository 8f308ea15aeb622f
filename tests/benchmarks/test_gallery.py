"""Another photograph of the person: who is compared, and what a search finds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import gallery
from tests.core.test_metrics import smooth_picture
from tests.support.faces import synthetic_face


class Recognizer:
    """Sees the mean colour of a window."""

    name, thresholds, spare_thresholds = "colour", {0.001: 0.9}, {0.001: 0.99}

    def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images.mean(dim=(2, 3)), dim=1)


def test_a_probe_that_is_nearest_to_its_own_entry_is_first_and_ties_are_not_against_it():
    entries = np.eye(3)
    assert gallery.ranks(entries, entries).tolist() == [1, 1, 1]
    assert gallery.ranks(entries[[1, 0, 2]], entries).tolist() == [2, 2, 1]
    assert gallery.ranks(np.ones((3, 3)), entries).tolist() == [1, 1, 1]


def test_the_face_nearest_to_its_place_is_seen_and_without_a_place_the_largest():
    picture = smooth_picture(200, 300)
    picture[:, 150:] = 255 - picture[:, 150:]
    small, large = synthetic_face(80, 90, 40), synthetic_face(220, 90, 60)
    detector = SimpleNamespace(detect=lambda pixels: [small, large])
    seen = [gallery.embed_face(picture, detector, [Recognizer()], place)["colour"] for place in (small.landmarks5, None)]
    assert seen[0] != seen[1]
    assert seen[1] == gallery.embed_face(picture, detector, [Recognizer()], large.landmarks5)["colour"]
    blind = SimpleNamespace(detect=lambda pixels: [])
    assert gallery.embed_face(picture, blind, [Recognizer()], small.landmarks5)["colour"]
    with pytest.raises(SystemExit, match="face in every other photograph"):
        gallery.embed_face(picture, blind, [Recognizer()])


def test_cells_count_matches_and_places_and_rows_without_another_photo_have_none():
    rows = [
        {"beside": {"cover": {"colour": cover}, "other": {"colour": other}}}
        for cover, other in (([1.0, 0.0], [1.0, 0.0]), ([1.0, 0.0], [0.0, 1.0]))
    ]
    cells = gallery.describe(rows, "cover", [Recognizer()])
    assert list(cells.values()) == ["0.50, 1 / 1 of 2", "1, 2 of 2"]
    assert gallery.describe([{}], "cover", [Recognizer()]) == {}
    assert gallery.look_beside(None, {}, np.zeros((5, 2)), None, []) == {}
