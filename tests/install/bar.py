"""What every way to install is held to: a picture with other faces, in under five minutes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from devtools.paths import SAMPLE_PHOTO

FIVE_MINUTES = 300.0
DECODERS_DIFFER = 24


def is_another(picture: np.ndarray) -> bool:
    """Say whether a picture is the sample photo with other faces: as large, and changed in some of it.

    The host reads JPEGs with a decoder of its own, which differs from Pillow's by a few levels.
    """
    with Image.open(SAMPLE_PHOTO) as photo:
        original = np.asarray(photo.convert("RGB"), int)
    if picture.shape != original.shape:
        return False
    changed = np.abs(picture.astype(int) - original).max(axis=2) > DECODERS_DIFFER
    return bool(0.005 < changed.mean() < 0.2)
