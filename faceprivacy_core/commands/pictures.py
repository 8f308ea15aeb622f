"""Reads the pictures of commands as arrays; see `picture_files` for what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..picture_files import PictureFile, read_picture_file


def read_opaque(path: Path) -> PictureFile:
    """Read a picture upright; an alpha channel that is opaque everywhere does not count.

    Raises:
        InputError: As for `read_picture_file`, or the picture has transparent parts.
    """
    picture = read_picture_file(path)
    if picture.alpha is not None and picture.alpha.min() < 255:
        raise InputError(
            f"Expected a picture without transparent parts, {path} has some, and what shows through is not known. "
            "Put it on a background and save it without an alpha channel first."
        )
    return picture


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read the pixels of a picture, (H, W, 3) uint8 RGB; see `read_opaque`."""
    return read_opaque(path).pixels


def read_mask(path: Path) -> NDArray[np.float32]:
    """Read a mask upright, (H, W) float32 in [0, 1]; black is 0. See `read_opaque`."""
    grey = Image.fromarray(read_opaque(path).pixels).convert("L")
    return np.asarray(grey, dtype=np.float32) / np.float32(255.0)
