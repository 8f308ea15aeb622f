"""What a benchmark leaves to be looked at: a strip of crops for each picture, and sheets of strips at full size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from faceprivacy_core.pixels import to_pixels

STRIPS = 4
"""Strips on one sheet, so that a viewer need not make it smaller."""


def keep(folder: Path, picture: str, crops: Sequence[Tensor]) -> None:
    """Save crops (1, 3, S, S) in [0, 1] of a picture side by side, under the picture's name."""
    folder.mkdir(parents=True, exist_ok=True)
    strip = np.concatenate([to_pixels(crop) for crop in crops], axis=1)
    Image.fromarray(strip).save(folder / f"{Path(picture).stem}.png")


def draw_sheets(folder: Path) -> list[Path]:
    """Stack the strips of a folder, a few a sheet, in order of names.

    Returns:
        The sheets, FOLDER_1.png and so on beside the folder; none where there are no strips.
    """
    sheets = []
    files = sorted(folder.glob("*.png"))
    for start in range(0, len(files), STRIPS):
        strips = [np.array(Image.open(file)) for file in files[start : start + STRIPS]]
        width = max(strip.shape[1] for strip in strips)
        padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips]
        sheets.append(folder.with_name(f"{folder.name}_{start // STRIPS + 1}.png"))
        Image.fromarray(np.concatenate(padded)).save(sheets[-1])
    return sheets
