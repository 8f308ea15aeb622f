"""The pictures that benchmarks measure on: generated faces that no model was trained on, and the sample photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.splits import Part, generated_faces

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / ".cache" / "generated_faces"
"""Pictures of `calibrate_recognizers generate`."""
SAMPLES = ROOT / "docs" / "samples"

SIDE = 384


def find_pictures(count: int) -> list[Path]:
    """List the first `count` generated faces of published figures, then the sample photos.

    Raises:
        SystemExit: There are fewer generated faces.
    """
    return first_pictures(GENERATED, count) + sorted(SAMPLES.glob("*.jpg"))


def first_pictures(folder: Path, count: int, part: Part = Part.TEST) -> list[Path]:
    """List the first `count` pictures of a folder; of the folder of generated faces, those of a part.

    Raises:
        SystemExit: There are fewer.
    """
    everything = generated_faces(folder, part) if folder == GENERATED else sorted(folder.glob("*.jpg"))
    if len(everything) < count:
        raise SystemExit(
            f"Expected {count} pictures for {part.value} in {folder}, found {len(everything)}. Draw generated faces with "
            "`python -m benchmarks.calibrate_recognizers generate`, or lower the count."
        )
    return everything[:count]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3), scaled so that its shorter side is SIDE."""
    with Image.open(path) as opened:
        scale = SIDE / min(opened.size)
        width, height = (round(side * scale) for side in opened.size)
        return np.array(opened.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
