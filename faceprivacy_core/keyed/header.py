"""The public description of one keyed face: what a reader must know before it has the key.

Stored as canonical JSON, so that equal headers have equal bytes: sorted names, no spaces,
floats in their shortest exact form.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, InputError
from .derivation import NONCE_BYTES, PUBLIC_KEY_BYTES, KdfParameters, hex_to_bytes
from .mode_names import RecoveryMode

VERSION = 3
"""Written. Still read: version 1, which had no signer, and version 2, whose faces are not bound to transparency."""
MAX_HEADER_BYTES = 2**20
MAX_CELLS_PER_SIDE = 512
MAX_COORDINATE = 2.0**24
"""Of a crop's place: far beyond the largest picture, and no sum of such numbers leaves the finite ones."""
_MODEL_ID = re.compile(r"(?:[0-9a-f]{32})?")
_MOST_OBJECTS, _MOST_LISTS = 3, 1
"""In a header: itself, cells and kdf; the map. Building hundreds of thousands of others takes seconds."""
_MAX_DIGITS = 12
"""Longest whole number read. No field needs more, and turning a million digits into a number takes minutes."""


class Cover(str, Enum):
    """Where the visible face comes from."""

    INDEPENDENT = "independent"
    KEYED = "keyed"
    PROVIDED = "provided"


class Bind(str, Enum):
    """Which pixels the sealed payload is bound to."""

    PICTURE = "picture"
    SURROUNDINGS = "surroundings"
    NONE = "none"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaceHeader:
    """Public parameters of one keyed face.

    Attributes:
        version: Of the format, 1 to 3.
        mode: How the original comes back.
        cover: Where the visible face comes from.
        nonce: 16 random bytes, fresh for every face.
        kdf: Salt and cost for a passphrase; None for a raw key.
        width, height: Of the picture, pixels.
        crop_size: Side of the square face crop, 64 to 4096 pixels, a multiple of 8.
        crop_to_image: Row-major 2x3 affine map from crop to picture pixels; stored as floats.
        cells: (rows, columns) bool, True where the face is replaced; a private copy, read-only.
        model: First 32 hexadecimal digits of the model's hash, or "" where none is needed.
        condition: The same for the prompt.
        steps: Sampling steps, 0 to 1000.
        iterations: Fixed-point iterations, 0 to 100.
        bind: Which pixels the payload is bound to.
        decoy: Whether a wrong key yields another face instead of an error; image and signflip only.
        signer: 32 bytes, the Ed25519 key that the sealed payload is signed under; empty in version 1 and
            with a decoy, where it would tell the right key from a wrong one.

    Raises:
        InputError: A value is of another type or out of its range; `from_bytes` says FormatError.
    """

    version: int = VERSION
    mode: RecoveryMode
    cover: Cover
    nonce: bytes
    kdf: KdfParameters | None
    width: int
    height: int
    crop_size: int
    crop_to_image: tuple[float, float, float, float, float, float]
    cells: NDArray[np.bool_]
    model: str
    condition: str
    steps: int
    iterations: int
    bind: Bind
    decoy: bool
    signer: bytes = b""

    def __post_init__(self) -> None:
        kinds = (("mode", RecoveryMode), ("cover", Cover), ("bind", Bind), ("decoy", bool))
        for name, kind in kinds:
            _check(type(getattr(self, name)) is kind, name, f"a {kind.__name__}")
        _check(type(self.nonce) is bytes and len(self.nonce) == NONCE_BYTES, "nonce", f"{NONCE_BYTES} bytes")
        _check(self.kdf is None or type(self.kdf) is KdfParameters, "kdf", "KdfParameters or None")
        ranges = {"version": (1, VERSION), "width": (1, 2**16), "height": (1, 2**16), "crop_size": (64, 4096)}
        for name, (low, high) in (ranges | {"steps": (0, 1000), "iterations": (0, 100)}).items():
            value = getattr(self, name)
            _check(type(value) is int and low <= value <= high, name, f"a whole number from {low} to {high}")
        _check(self.crop_size % 8 == 0, "crop_size", "a multiple of 8")
        for name in ("model", "condition"):
            value = getattr(self, name)
            _check(type(value) is str and _MODEL_ID.fullmatch(value) is not None, name, "32 hexadecimal digits or ''")
        _check(not self.decoy or self.mode.in_noise, "decoy", "mode image or signflip")
        needs_signer = self.version > 1 and not self.decoy
        is_signer = type(self.signer) is bytes and len(self.signer) == (PUBLIC_KEY_BYTES if needs_signer else 0)
        _check(is_signer, "signer", f"{PUBLIC_KEY_BYTES} bytes, or none in version 1 and with a decoy")
        object.__setattr__(self, "crop_to_image", _finite_floats(self.crop_to_image))
        object.__setattr__(self, "cells", _frozen_cells(self.cells))

    def to_bytes(self) -> bytes:
        """Write the header as canonical JSON, UTF-8."""
        rows, columns = self.cells.shape
        fields = {name: getattr(self, name) for name in _FIELDS[self.version]}
        fields |= {
            "bind": self.bind.value,
            "cells": {"bits": np.packbits(self.cells).tobytes().hex(), "columns": columns, "rows": rows},
            "cover": self.cover.value,
            "crop_to_image": list(self.crop_to_image),
            "kdf": None if self.kdf is None else self.kdf.to_dict(),
            "mode": self.mode.value,
            "nonce": self.nonce.hex(),
        }
        if "signer" in fields:
            fields["signer"] = self.signer.hex()
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> FaceHeader:
        """Read what `to_bytes` wrote, byte for byte, and nothing else.

        Raises:
            FormatError: Anything about the bytes is different.
        """
        fields = _parse_json(data)
        if type(fields) is not dict or type(fields.get("version")) is not int:
            raise FormatError
        if set(fields) != _FIELDS.get(fields["version"]):
            raise FormatError
        try:
            header = cls(**fields | _decode(fields))
        except ValueError:  # an enum's, or an InputError, which is one
            raise FormatError from None
        if header.to_bytes() != data:
            raise FormatError
        return header


_ALL_FIELDS = frozenset(FaceHeader.__dataclass_fields__)
_FIELDS = {1: _ALL_FIELDS - {"signer"}, 2: _ALL_FIELDS, 3: _ALL_FIELDS}
"""Names that are stored, by version."""


def _check(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise InputError(f"Expected {name} of a keyed face to be (or go with) {expected}, got something else.")


def _finite_floats(values: Any) -> tuple[float, ...]:
    floats = tuple(float(value) for value in np.ravel(values))
    is_sound = len(floats) == 6 and all(math.isfinite(value) and abs(value) <= MAX_COORDINATE for value in floats)
    _check(is_sound, "crop_to_image", f"six numbers up to {MAX_COORDINATE:.0f}")
    return floats


def _frozen_cells(cells: Any) -> NDArray[np.bool_]:
    is_grid = isinstance(cells, np.ndarray) and cells.dtype == np.bool_ and cells.ndim == 2
    _check(is_grid and all(1 <= side <= MAX_CELLS_PER_SIDE for side in cells.shape), "cells", "a bool grid, sides 1 to 512")
    _check(bool(cells.any()), "cells", "a grid with at least one True")
    frozen = np.array(cells, order="C")
    frozen.flags.writeable = False
    return frozen


def _parse_json(data: bytes) -> Any:
    if len(data) > MAX_HEADER_BYTES or data.count(b"{") > _MOST_OBJECTS or data.count(b"[") > _MOST_LISTS:
        raise FormatError
    try:
        return json.loads(data.decode("ascii"), parse_int=_parse_int)
    except (ValueError, RecursionError):
        raise FormatError from None


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise FormatError
    return int(text)


def _decode(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn the JSON forms of fields into their types; the rest is checked by the class."""
    numbers = fields["crop_to_image"]
    if type(numbers) is not list or any(type(number) is not float for number in numbers):
        raise FormatError
    return {
        "bind": Bind(fields["bind"]),
        "cells": _decode_cells(fields["cells"]),
        "cover": Cover(fields["cover"]),
        "kdf": None if fields["kdf"] is None else KdfParameters.from_dict(fields["kdf"]),
        "mode": RecoveryMode(fields["mode"]),
        "nonce": hex_to_bytes(fields["nonce"]),
        "signer": hex_to_bytes(fields.get("signer", "")),
    }


def _decode_cells(fields: Any) -> NDArray[np.bool_]:
    if type(fields) is not dict or set(fields) != {"bits", "columns", "rows"}:
        raise FormatError
    sides = (fields["rows"], fields["columns"])
    if any(type(side) is not int or not 1 <= side <= MAX_CELLS_PER_SIDE for side in sides):
        raise FormatError
    count = sides[0] * sides[1]
    packed = np.frombuffer(hex_to_bytes(fields["bits"]), dtype=np.uint8)
    if packed.size != (count + 7) // 8:
        raise FormatError
    return np.unpackbits(packed, count=count).astype(np.bool_).reshape(sides)
