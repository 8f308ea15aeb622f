"""What is left to be looked at: every pixel as it came, some strips a sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.kept import STRIPS, draw_sheets, keep


def test_strips_hold_the_crops_side_by_side_and_sheets_every_strip_at_its_size(tmp_path: Path):
    crops = [torch.full((1, 3, 8, 8), value) for value in (0.0, 0.5, 1.0)]
    for number in range(STRIPS + 1):
        keep(tmp_path / "people_latent", f"{number:03}_0.jpg", crops[: 2 if number == 1 else 3])
    strip = np.asarray(Image.open(tmp_path / "people_latent" / "000_0.png"))
    assert strip.shape == (8, 24, 3)
    assert [int(strip[0, column, 0]) for column in (0, 8, 16)] == [0, 128, 255]
    first, second = draw_sheets(tmp_path / "people_latent")
    assert [path.name for path in (first, second)] == ["people_latent_1.png", "people_latent_2.png"]
    sheet = np.asarray(Image.open(first))
    assert sheet.shape == (8 * STRIPS, 24, 3)
    assert (sheet[:8] == strip).all()
    assert not sheet[8:16, 16:].any(), "a shorter strip is filled up"
    assert np.asarray(Image.open(second)).shape == (8, 24, 3)


def test_no_strips_no_sheets(tmp_path: Path):
    assert draw_sheets(tmp_path / "nothing") == []
    assert list(tmp_path.iterdir()) == []
