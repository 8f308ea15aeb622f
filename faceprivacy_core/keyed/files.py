"""Keyed pictures on disk: a PNG with its payload inside, or a picture and a sidecar beside it.

A picture is written whole or not at all, with its pixels and its payload and nothing that was
not asked for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ..errors import FormatError, InputError
from .container import MAX_CONTAINER_BYTES

CHUNK = b"fpRv"
"""Private ancillary PNG chunk; programs that do not know it skip it."""
SIDECAR_SUFFIX = ".fprv"

PLAIN_MODES = ("RGB", "L", "P", "1")
ALPHA_MODES = ("RGBA", "LA", "PA")
_KEYWORD_LENGTHS = (1, 79)


def write_png(path: Path, pixels: NDArray[np.uint8], container: bytes | None, *, text: Mapping[str, str] | None = None) -> None:
    """Write a picture with its keyed payload as PNG.

    Args:
        path: The file; an existing one is replaced at once or stays as it is.
        pixels: (H, W, 3 or 4) uint8 RGB or RGBA, written exactly.
        container: As `container.pack` made it; None writes a plain picture.
        text: Text chunks, keyword to text; None writes no metadata at all.

    Raises:
        InputError: Pixels of another type or shape, a picture or container that is too large,
            a keyword that PNG does not allow, or a folder that cannot be written.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.size == 0:
        raise InputError(f"Expected (H, W, 3 or 4) uint8 pixels, got {pixels.shape} {pixels.dtype}.")
    _check_size(pixels.shape[1], pixels.shape[0], "the picture to write")
    info = PngInfo()
    for keyword, value in (text or {}).items():
        _check_keyword(keyword)
        info.add_text(keyword, value)
    if container is not None:
        _check_container(container)
        info.add(CHUNK, bytes(container), after_idat=False)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    _write_whole(Path(path), lambda stream: picture.save(stream, format="PNG", pnginfo=info))


def write_sidecar(path: Path, container: bytes) -> None:
    """Write a container to a file of its own, at `sidecar_path(picture)` by custom.

    Raises:
        InputError: The container is too large, or the folder cannot be written.
    """
    _check_container(container)
    _write_whole(Path(path), lambda stream: stream.write(container))


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a picture is looked for."""
    return Path(path).with_suffix(SIDECAR_SUFFIX)


def read_keyed(path: Path, sidecar: Path | None = None) -> tuple[NDArray[np.uint8], bytes]:
    """Read a picture as its pixels are stored, and its keyed payload.

    Args:
        path: A picture; without a payload inside, one is looked for beside it.
        sidecar: File to take the payload from instead.

    Returns:
        (H, W, 3 or 4) uint8 pixels, not turned by any EXIF orientation, and the container.

    Raises:
        InputError: There is no picture, or a damaged, too large, 16-bit or animated one, or
            no file at `sidecar`.
        FormatError: No payload is found, more than one, or one that is too large.
    """
    path = Path(path)
    pixels, chunks = _read_picture(path)
    if sidecar is not None:
        return pixels, read_sidecar(Path(sidecar))
    if len(chunks) > 1:
        raise FormatError
    if chunks:
        return pixels, chunks[0]
    if not sidecar_path(path).is_file():
        raise FormatError
    return pixels, read_sidecar(sidecar_path(path))


def read_sidecar(path: Path) -> bytes:
    """Read a container from a file of its own.

    Raises:
        InputError: There is no such file.
        FormatError: It is too large.
    """
    try:
        with path.open("rb") as stream:
            container = stream.read(MAX_CONTAINER_BYTES + 1)
    except OSError as error:
        raise InputError(f"Expected a sidecar at {path}, got: {error.strerror}.") from None
    if len(container) > MAX_CONTAINER_BYTES:
        raise FormatError
    return container


def _read_picture(path: Path) -> tuple[NDArray[np.uint8], list[bytes]]:
    try:
        with Image.open(path) as opened:
            _check_size(*opened.size, path)
            _check_kind(path, opened)
            opened.load()  # chunks behind the pixels are known only then
            chunks = [chunk[1] for chunk in getattr(opened, "private_chunks", ()) if chunk[0] == CHUNK]
            has_alpha = opened.mode in ALPHA_MODES or "transparency" in opened.info
            return np.array(opened.convert("RGBA" if has_alpha else "RGB")), chunks
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"Expected a picture at {path}, there is no such file.") from None
    except Image.DecompressionBombError:
        raise InputError(f"Expected a picture of a usual size, {path} is far larger. Reduce it first.") from None
    except UnidentifiedImageError:
        raise InputError(f"Expected a picture (PNG, JPEG, WebP), {path} is none that can be read.") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three for files that are cut off or damaged
        raise InputError(f"Expected a whole picture, {path} cannot be read ({error}). Use an undamaged copy.") from None


def _check_kind(path: Path, picture: Image.Image) -> None:
    # Pillow reads 16-bit colour as 8-bit without a word; only the tile tells.
    stored = [str(tile[3]) for tile in picture.tile]
    if picture.mode not in PLAIN_MODES + ALPHA_MODES or any("16" in layout for layout in stored):
        raise InputError(f"Expected an RGB or grey picture with 8 bits, {path} is {picture.mode} or has more bits.")
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise InputError(f"Expected one picture, {path} holds {getattr(picture, 'n_frames', 1)} frames.")


def _check_size(width: int, height: int, what: Path | str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise InputError(f"Expected at most {limit} pixels, {what} has {width} x {height}. Reduce it first.")


def _check_container(container: bytes) -> None:
    if len(container) > MAX_CONTAINER_BYTES:
        raise InputError(f"Expected a payload of at most {MAX_CONTAINER_BYTES >> 20} MiB, got {len(container)} bytes.")


def _check_keyword(keyword: str) -> None:
    low, high = _KEYWORD_LENGTHS
    if not (keyword.isascii() and keyword.isprintable() and low <= len(keyword) <= high and keyword == keyword.strip()):
        raise InputError(f"Expected a PNG keyword of {low} to {high} plain characters, got {keyword!r}.")


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that its name never stands for half of it."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or "an unknown failure"
            raise InputError(f"Expected to write {path}, got: {reason}. Choose another folder.") from None
        raise
