"""The one reader of pictures, and how results are stored.

Limits are checked before anything is decoded. Nothing is repaired or guessed; what cannot be read
exactly is refused by name.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from .errors import InputError
from .types import Picture

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF")
"""Never a format that runs another program (PostScript), or reads further files."""

MAX_FILE_BYTES = 512 * 2**20
MAX_PIXELS = 100_000_000
SHORT_FILE_PIXELS, PIXELS_A_BYTE = 16_000_000, 4096
"""A larger picture must have a byte for so many pixels: one of a single colour has one for 344 as a PNG, and for 64 as a JPEG.
So a file of a few bytes asks for little memory, whatever it claims."""

BAND_PIXELS = 2**22
"""Pixels that are brought into order at a time."""

PLAIN_MODES = ("RGB", "L", "P", "1")
ALPHA_MODES = ("RGBA", "LA", "PA")
GREY_MODES = ("L", "LA", "1")
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""How a picture is turned upright, by its EXIF orientation; 1, and whatever the standard does not know, is not."""

DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises for damaged files. Running out of memory is not among them."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Look:
    """What is kept of a picture besides its pixels.

    Attributes:
        is_grey: Stored without colour.
        icc: Its colour profile; None is sRGB by custom.
        dpi: Dots per inch, across and down.
    """

    is_grey: bool = False
    icc: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture as it was read.

    Attributes:
        pixels: (H, W, 3) uint8 RGB; three equal channels where the file has no colour.
        alpha: (H, W) uint8, or None where the file has no alpha channel.
        look: What is kept besides.
        chunks: Private PNG chunks, (name, content).
    """

    pixels: Picture
    alpha: Picture | None
    look: Look
    chunks: tuple[tuple[bytes, bytes], ...] = ()


def read_picture_file(path: Path, *, upright: bool = True) -> PictureFile:
    """Read a picture.

    Args:
        path: A file of one of `FORMATS`; its content decides which.
        upright: Turn it as its EXIF orientation says; a damaged orientation counts as none.

    Raises:
        InputError: There is no such file, or it is too large, damaged, of another format, of several
            frames, or has 16 bits or other inks.
    """
    data = _read_bytes(path)
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        raise InputError(
            f"Expected a PNG, JPEG or WebP, {path} is HEIC. Save it as JPEG or PNG first; phones have a setting for it "
            "(camera formats, most compatible)."
        )
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, on which pixels do not depend
            return _read(path, data, upright=upright)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"Expected at most {MAX_PIXELS} pixels, {path} has far more. Reduce it first.") from None
    except UnidentifiedImageError:
        raise InputError(f"Expected a picture ({', '.join(FORMATS)}), {path} is none that can be read.") from None
    except DAMAGE as error:
        raise InputError(f"Expected a whole picture, {path} cannot be read ({error}). Save it again.") from None


def png_bytes(pixels: Picture, look: Look | None = None, *, info: PngInfo | None = None) -> bytes:
    """Encode pixels (H, W, 3 or 4) uint8 as PNG, with nothing but the given look and chunks.

    A picture that was stored without colour is stored so again if it still has none.

    Raises:
        InputError: Pixels of another shape or type, or too many.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.size == 0:
        raise InputError(f"Expected (H, W, 3 or 4) uint8 pixels, got {pixels.shape} {pixels.dtype}.")
    _check_size("the picture to write", pixels.shape[1], pixels.shape[0])
    look = Look() if look is None else look
    icc = look.icc
    if look.is_grey and not is_grey(pixels):
        icc = None  # a profile without colour does not fit
    elif look.is_grey:
        pixels = pixels[..., 0] if pixels.shape[2] == 3 else pixels[..., [0, 3]]
    options: dict[str, Any] = {"pnginfo": info} if info is not None else {}
    if look.dpi is not None:
        options["dpi"] = look.dpi
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", icc_profile=icc, **options)
    return stream.getvalue()


def is_grey(pixels: Picture) -> bool:
    """Tell whether no pixel of (H, W, 3 or 4) uint8 has colour."""
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def _read(path: Path, data: bytes, *, upright: bool) -> PictureFile:
    with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
        _check_size(path, *opened.size)
        _check_length(path, *opened.size, len(data))
        _check_kind(path, opened)
        orientation = _orientation(opened) if upright else 1
        opened.load()  # chunks behind the pixels are known only then
        turned = opened.transpose(TURNS[orientation]) if orientation in TURNS else opened
        return _picture_file(turned, opened)


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"Expected a picture at {path}, there is no such file.")
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, before Python 3.13
        reason = getattr(error, "strerror", None) or "it leads nowhere"
        raise InputError(f"Expected to read the picture {path}, got: {reason}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"Expected a picture of at most {MAX_FILE_BYTES >> 20} MiB, {path} is larger. Reduce it first.")
    return data


def _check_size(what: Path | str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"Expected at most {MAX_PIXELS} pixels, {what} has {width} x {height}. Reduce it first.")


def _check_length(path: Path, width: int, height: int, length: int) -> None:
    if width * height > max(SHORT_FILE_PIXELS, PIXELS_A_BYTE * length):
        raise InputError(
            f"Expected a file that can hold its picture, {path} claims {width} x {height} pixels in {length} bytes. Save it "
            "again, or reduce it."
        )


def _check_kind(path: Path, picture: Image.Image) -> None:
    # Pillow reads 16-bit colour as 8-bit without a word; only the tile tells.
    stored = [str(tile[3]) for tile in getattr(picture, "tile", ())]
    if picture.mode.startswith(("I", "F")) or any("16" in layout for layout in stored):
        raise InputError(f"Expected 8 bits per channel, {path} has more. Save it with 8 bits first.")
    if picture.mode not in PLAIN_MODES + ALPHA_MODES:
        raise InputError(f"Expected an RGB or grey picture, {path} is {picture.mode}. Convert it to RGB first.")
    # Further pictures in a phone's JPEG are previews.
    frames = 1 if picture.format in ("JPEG", "MPO") else getattr(picture, "n_frames", 1)
    if frames > 1:
        raise InputError(f"Expected one picture, {path} holds {frames} frames. Save each as a file of its own first.")


def _orientation(picture: Image.Image) -> int:
    return _or_none(lambda: int(picture.getexif().get(ORIENTATION_TAG, 1))) or 1


def _picture_file(picture: Image.Image, opened: Image.Image) -> PictureFile:
    alpha = None
    if picture.mode in ALPHA_MODES or "transparency" in picture.info:
        coloured = _array(picture, "RGBA")
        pixels, alpha = coloured[..., :3].copy(), coloured[..., 3].copy()
    else:
        pixels = _array(picture, "RGB")
    chunks = tuple((chunk[0], chunk[1]) for chunk in getattr(opened, "private_chunks", ()))
    icc = opened.info.get("icc_profile")
    dpi = _or_none(lambda: tuple(float(value) for value in opened.info["dpi"]))
    if dpi is not None and not (len(dpi) == 2 and all(1.0 <= value <= 1e6 for value in dpi)):
        dpi = None
    look = Look(opened.mode in GREY_MODES, icc if isinstance(icc, bytes) and icc else None, dpi)
    return PictureFile(pixels, alpha, look, chunks)


def _array(picture: Image.Image, mode: str) -> Picture:
    """Return the pixels of a picture in a mode, (H, W, C); bands of rows, for conversions make several copies."""
    (width, height), rows = picture.size, max(1, BAND_PIXELS // picture.width)
    pixels = np.empty((height, width, len(mode)), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)).convert(mode))
    return pixels


def _or_none(read: Callable[[], Any]) -> Any:
    """Return a field of the metadata, None where it is missing or damaged: pixels do not depend on it."""
    try:
        return read()
    except DAMAGE:
        return None
