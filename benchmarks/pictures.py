"""The pictures that benchmarks measure on: generated faces that no model was trained on, and the sample photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / ".cache" / "generated_faces"
"""Pictures of `calibrate_recognizers generate`."""
SAMPLES = ROOT / "docs" / "samples"

SIDE = 384


def find_pictures(count: int) -> list[Path]:
    """List the first `count` generated faces, then the sample photos.

    Raises:
        SystemExit: There are fewer generated faces.
    """
    generated = sorted(GENERATED.glob("*.jpg"))[:count]
    if len(generated) < count:
        raise SystemExit(f"Expected {count} pictures in {GENERATED}, found {len(generated)}. Make them: calibrate_recognizers.")
    return generated + sorted(SAMPLES.glob("*.jpg"))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3), scaled so that its shorter side is SIDE."""
    with Image.open(path) as opened:
        scale = SIDE / min(opened.size)
        width, height = (round(side * scale) for side in opened.size)
        return np.array(opened.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
