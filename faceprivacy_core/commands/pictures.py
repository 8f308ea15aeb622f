"""Reads pictures upright, or says why not; nothing is repaired or guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError

PLAIN_MODES = ("RGB", "L", "P", "1")
ALPHA_MODES = ("RGBA", "LA", "PA")
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "TIFF")
"""Formats whose further frames are pictures of their own (in a phone's JPEG they are previews)."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture, turned as its EXIF orientation says.

    Grey and palette pictures become RGB; an alpha channel that is opaque everywhere is dropped.

    Args:
        path: A PNG, JPEG, WebP or other file that Pillow reads.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: No picture is there, or one with 16 bits, CMYK or other inks, several frames
            or transparent parts.
    """
    return np.asarray(_read(path).convert("RGB"))


def read_picture_with_alpha(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Read a picture and its alpha channel, turned as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8 RGB, and (H, W) uint8 or None where the file has no alpha channel.

    Raises:
        InputError: As for `read_picture`, but transparent parts are allowed.
    """
    picture = _open_upright(path)
    if picture.mode not in ALPHA_MODES and "transparency" not in picture.info:
        return np.asarray(picture.convert("RGB")), None
    coloured = np.asarray(picture.convert("RGBA"))
    return coloured[..., :3].copy(), coloured[..., 3].copy()


def read_mask(path: Path) -> NDArray[np.float32]:
    """Read a mask, turned as its EXIF orientation says.

    Returns:
        (H, W) float32 in [0, 1]; black is 0.

    Raises:
        InputError: As for `read_picture`.
    """
    return np.asarray(_read(path).convert("L"), dtype=np.float32) / 255.0


def _read(path: Path) -> Image.Image:
    return _drop_opaque_alpha(path, _open_upright(path))


def _open_upright(path: Path) -> Image.Image:
    try:
        with Image.open(path) as opened:
            _check_kind(path, opened)
            return ImageOps.exif_transpose(opened)
    except FileNotFoundError as error:
        raise InputError(f"Expected a picture at {path}, there is no such file.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"Expected a picture of a usual size, {path} is far larger. Reduce it first.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"Expected a picture (PNG, JPEG, WebP), {path} is none that can be read.") from error
    except (OSError, SyntaxError) as error:  # Pillow raises both for files that are cut off or damaged
        raise InputError(f"Expected a whole picture, {path} cannot be read ({error}). Save it again.") from error


def _check_kind(path: Path, picture: Image.Image) -> None:
    # Pillow reads 16-bit colour as 8-bit without a word; only the tile tells.
    stored = [str(tile[3]) for tile in picture.tile]
    if picture.mode.startswith(("I", "F")) or any("16" in layout for layout in stored):
        raise InputError(f"Expected 8 bits per channel, {path} has more. Save it with 8 bits first.")
    if picture.mode not in PLAIN_MODES + ALPHA_MODES:
        raise InputError(f"Expected an RGB or grey picture, {path} is {picture.mode}. Convert it to RGB first.")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format in ANIMATED_FORMATS:
        raise InputError(f"Expected one picture, {path} holds {frames} frames. Save each as a file of its own first.")


def _drop_opaque_alpha(path: Path, picture: Image.Image) -> Image.Image:
    if picture.mode not in ALPHA_MODES and "transparency" not in picture.info:
        return picture
    coloured = picture.convert("RGBA")
    if coloured.getchannel("A").getextrema()[0] < 255:
        raise InputError(
            f"Expected a picture without transparent parts, {path} has some, and what shows through is not known. "
            "Put it on a background and save it without an alpha channel first."
        )
    return coloured.convert("RGB")
