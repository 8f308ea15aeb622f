"""Keyed pictures on disk: a PNG with its payload inside, or a picture and a sidecar beside it.

A picture is written whole or not at all, with its pixels and its payload and nothing that was
not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from ..errors import FormatError, InputError
from ..files import NewFile, write_file
from ..picture_files import Look, png_bytes, read_picture_file
from .container import MAX_CONTAINER_BYTES

CHUNK = b"fpRv"
"""Private ancillary PNG chunk; programs that do not know it skip it."""
SIDECAR_SUFFIX = ".fprv"

_KEYWORD_LENGTHS = (1, 79)


@dataclass(frozen=True, eq=False)
class KeyedFile:
    """A keyed picture as it is stored.

    Attributes:
        pixels: (H, W, 3 or 4) uint8, not turned by any EXIF orientation.
        container: Its payload.
        look: Colour profile, resolution, and whether it is stored without colour.
    """

    pixels: NDArray[np.uint8]
    container: bytes
    look: Look


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
    write_file(Path(path), keyed_png(pixels, container, text=text))


def keyed_png(
    pixels: NDArray[np.uint8], container: bytes | None, *, text: Mapping[str, str] | None = None, look: Look | None = None
) -> bytes:
    """Encode what `write_png` writes; `look` is kept with it."""
    info = PngInfo()
    for keyword, value in (text or {}).items():
        _check_keyword(keyword)
        info.add_text(keyword, value)
    if container is not None:
        _check_container(container)
        info.add(CHUNK, bytes(container), after_idat=False)
    return png_bytes(pixels, look, info=info)


def write_sidecar(path: Path, container: bytes) -> None:
    """Write a container to a file of its own, at `sidecar_path(picture)` by custom.

    Raises:
        InputError: The container is too large, or the folder cannot be written.
    """
    write_file(path, sidecar_file(path, container).content)


def sidecar_file(path: Path, container: bytes) -> NewFile:
    """Return the sidecar as a file to be written together with its picture; see `write_sidecar`."""
    _check_container(container)
    return NewFile(Path(path), container)


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a picture is looked for."""
    return Path(path).with_suffix(SIDECAR_SUFFIX)


def read_keyed(path: Path, sidecar: Path | None = None) -> tuple[NDArray[np.uint8], bytes]:
    """Read the pixels of a keyed picture and its payload; see `read_keyed_file`."""
    stored = read_keyed_file(path, sidecar)
    return stored.pixels, stored.container


def read_keyed_file(path: Path, sidecar: Path | None = None) -> KeyedFile:
    """Read a picture as its pixels are stored, and its keyed payload.

    Args:
        path: A picture; without a payload inside, one is looked for beside it.
        sidecar: File to take the payload from instead.

    Raises:
        InputError: There is no picture, or a damaged, too large, 16-bit or animated one, or
            no file at `sidecar`.
        FormatError: No payload is found, more than one, or one that is too large.
    """
    path = Path(path)
    picture = read_picture_file(path, upright=False)
    pixels = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    payloads = payloads_in(picture.chunks)
    if sidecar is None and len(payloads) > 1:
        raise FormatError
    if sidecar is None and payloads:
        return KeyedFile(pixels, payloads[0], picture.look)
    beside = sidecar_path(path) if sidecar is None else Path(sidecar)
    if sidecar is None and not beside.is_file():
        raise FormatError
    return KeyedFile(pixels, read_sidecar(beside), picture.look)


def payloads_in(chunks: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the keyed payloads among the private chunks of a PNG."""
    return [content for name, content in chunks if name == CHUNK]


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


def _check_container(container: bytes) -> None:
    if len(container) > MAX_CONTAINER_BYTES:
        raise InputError(f"Expected a payload of at most {MAX_CONTAINER_BYTES >> 20} MiB, got {len(container)} bytes.")


def _check_keyword(keyword: str) -> None:
    low, high = _KEYWORD_LENGTHS
    if not (keyword.isascii() and keyword.isprintable() and low <= len(keyword) <= high and keyword == keyword.strip()):
        raise InputError(f"Expected a PNG keyword of {low} to {high} plain characters, got {keyword!r}.")
