"""The generated faces that benchmarks measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / ".cache" / "generated_faces"
"""Pictures of `calibrate_recognizers generate`; no model was trained on them."""

SIDE = 384


def read_square(path: Path) -> NDArray[np.uint8]:
    """Read a square picture as (SIDE, SIDE, 3)."""
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
