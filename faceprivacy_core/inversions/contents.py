"""A stored inversion as bytes: a safetensors file.

    tensors   noise                    (N, C, h, w) float16
              tokens.ENCODER.offsets   (K, N, m, D) float16
              tokens.ENCODER.base      (N, L, D) float16, where there is a base
              sigmas                   (S + 1,) float64
              placement                (N, 21) float64: box 4, landmarks 10, confidence 1, crop_to_image 6
    metadata  format, version, protection ("sealed" or "none"), details (JSON)

Everything is checked before it is used: the whole size before anything is parsed, names, types and
shapes before a tensor is made, values before they are returned.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.torch import save
from torch import Tensor

from ..align import invert_affine, transform_points
from ..embeddings.inversion import ModelIdentity, NoiseMap, StageTokens
from ..errors import InputError, InversionFormatError
from ..keyed.regions import CELL_SIDES
from ..types import Face, FaceCrop, FaceCrops, Faces
from .stored import ENCODERS, STORED_DTYPE, StoredInversion

FORMAT = "faceprivacy-inversion"
VERSION = "1"
SEALED, UNPROTECTED = "sealed", "none"
MAX_BYTES = 32 * 2**20
"""Far more than a picture full of faces takes; a reader holds a few times as much."""
MAX_HEADER_BYTES = 2**16
MAX_FACES = 256
MAX_SIDE = 2**16
MAX_PIXELS = 2**28
"""Of all pictures together: who loads an inversion draws masks of their size, 4 bytes a pixel."""
MAX_PIXELS_PER_BYTE = 2048
"""Of the file; a face takes tens of KB. A short file cannot ask for the memory of a long one."""
CROP_SIZES = range(64, 4097, 8)

_BOX, _LANDMARKS, _CONFIDENCE, _AFFINE = slice(0, 4), slice(4, 14), 14, slice(15, 21)
_PLACEMENT_COLUMNS = 21
_DIGITS = {
    "unet": r"[0-9a-f]{32}", "vae": r"[0-9a-f]{32}", "text_encoder": r"(?:[0-9a-f]{32})?", "picture": r"(?:[0-9a-f]{64})?",
}  # fmt: skip
_MAX_NAME = 200
_MAX_NUMBER_DIGITS = 12
_DTYPES = {"F16": np.dtype("<f2"), "F64": np.dtype("<f8")}
_DETAILS = {"crop_size", "height", "images", "model", "num_images", "residual", "width", *_DIGITS}
_METADATA = {"format", "version", "protection", "details"}
_Arrays = dict[str, NDArray[Any]]


def to_bytes(stored: StoredInversion, protection: str) -> bytes:
    """Write a stored inversion.

    Args:
        stored: Tokens and noise are rounded to float16.
        protection: `SEALED` for bytes that will be encrypted, `UNPROTECTED` for a file as it is.

    Raises:
        InputError: A value is too large for float16 or not finite, or all is larger than 32 MiB.
    """
    tensors = {"noise": _half(stored.noise.latent, "noise")}
    for encoder, tokens in stored.tokens.items():
        tensors[f"tokens.{encoder}.offsets"] = _half(tokens.offsets, "tokens")
        if tokens.base is not None:
            tensors[f"tokens.{encoder}.base"] = _half(tokens.base, "tokens")
    tensors["sigmas"] = torch.tensor(stored.noise.sigmas, dtype=torch.float64)
    tensors["placement"] = torch.from_numpy(np.stack([_placement(crop) for crop in stored.crops.items]))
    model, faces = stored.model, stored.crops.faces
    details = {
        "crop_size": stored.crops.size, "height": faces.height, "width": faces.width, "num_images": faces.num_images,
        "images": [crop.face.image_index for crop in stored.crops.items], "residual": stored.noise.residual,
        "model": model.name[:_MAX_NAME], "unet": model.unet, "vae": model.vae, "text_encoder": model.text_encoder,
        "picture": stored.picture_digest,
    }  # fmt: skip
    text = json.dumps(details, sort_keys=True, separators=(",", ":"))
    data = save(tensors, {"format": FORMAT, "version": VERSION, "protection": protection, "details": text})
    try:
        from_bytes(data, protection)
    except InversionFormatError:
        raise InputError(
            "Expected an inversion as inverting gives it (finite values, falling noise levels that end in 0, at most "
            f"{MAX_FACES} faces and {MAX_BYTES >> 20} MiB), got another. Make it again."
        ) from None
    return data


def from_bytes(data: bytes, protection: str) -> StoredInversion:
    """Read what `to_bytes` wrote.

    Args:
        data: The file, or what was sealed in it.
        protection: As it was written; other bytes are refused.

    Returns:
        Tokens and noise as float32.

    Raises:
        InversionFormatError: Anything about the bytes is different.
    """
    details = _read_details(data, protection)
    _check_details(details, len(data))
    arrays = _read_arrays(data)
    try:
        crops = _read_crops(arrays, details)
        noise = _read_noise(arrays, details)
        identity = ModelIdentity(details["model"], details["unet"], details["vae"], details["text_encoder"])
        return StoredInversion(identity, _read_tokens(arrays), noise, crops, details["picture"])
    except (InputError, KeyError, np.linalg.LinAlgError):  # of the classes that are filled, which check what goes together
        raise InversionFormatError from None


def parse_fields(text: bytes) -> dict[str, Any]:
    """Read a JSON object; InversionFormatError for anything else, or for a number that is too long to be looked at."""
    try:
        found = json.loads(text.decode("utf-8"), parse_int=_parse_int)
    except (ValueError, RecursionError):
        raise InversionFormatError from None
    if type(found) is not dict:
        raise InversionFormatError
    return found


def _half(tensor: Tensor, name: str) -> Tensor:
    rounded = tensor.detach().cpu().to(STORED_DTYPE).contiguous()
    if not bool(torch.isfinite(rounded).all()):
        raise InputError(f"Expected finite {name} below 65504, got others. Invert again in fp32 or with more steps.")
    return rounded


def _placement(crop: FaceCrop) -> NDArray[np.float64]:
    face = crop.face
    return np.concatenate(
        [face.bbox_xyxy, np.ravel(face.landmarks5), [face.confidence], np.ravel(crop.crop_to_image)], dtype=np.float64
    )


def _read_details(data: bytes, protection: str) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if not 8 < len(data) <= MAX_BYTES or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise InversionFormatError
    header = parse_fields(data[8 : 8 + length])
    metadata = header.get("__metadata__")
    if type(metadata) is not dict or set(metadata) != _METADATA:
        raise InversionFormatError
    wanted = {"format": FORMAT, "version": VERSION, "protection": protection}
    if any(metadata[name] != value for name, value in wanted.items()) or type(metadata["details"]) is not str:
        raise InversionFormatError
    return parse_fields(metadata["details"].encode("utf-8", "surrogatepass"))


def _parse_int(text: str) -> int:
    if len(text) > _MAX_NUMBER_DIGITS:
        raise InversionFormatError
    return int(text)


def _read_arrays(data: bytes) -> _Arrays:
    try:
        entries = dict(deserialize(data))
    except SafetensorError:
        raise InversionFormatError from None
    arrays = {}
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry["dtype"])
        wanted = "F64" if name in ("sigmas", "placement") else "F16"
        if dtype is None or entry["dtype"] != wanted or not entry["shape"] or min(entry["shape"]) < 1:
            raise InversionFormatError
        array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        if not np.isfinite(array).all():
            raise InversionFormatError
        arrays[name] = array
    return arrays


def _check_details(details: Mapping[str, Any], length: int) -> None:
    if set(details) != _DETAILS:
        raise InversionFormatError
    for name, pattern in _DIGITS.items():
        if type(details[name]) is not str or re.fullmatch(pattern, details[name]) is None:
            raise InversionFormatError
    sides = range(1, MAX_SIDE + 1)
    ranges = {"crop_size": CROP_SIZES, "num_images": range(1, MAX_SIDE), "height": sides, "width": sides}
    if any(type(details[name]) is not int or details[name] not in allowed for name, allowed in ranges.items()):
        raise InversionFormatError
    pixels = details["num_images"] * details["height"] * details["width"]
    if pixels > min(MAX_PIXELS, MAX_PIXELS_PER_BYTE * length):
        raise InversionFormatError
    name, residual, images = details["model"], details["residual"], details["images"]
    if type(name) is not str or len(name) > _MAX_NAME or type(residual) is not float or not 0 <= residual < math.inf:
        raise InversionFormatError
    if type(images) is not list or any(type(i) is not int or not 0 <= i < details["num_images"] for i in images):
        raise InversionFormatError


def _read_crops(arrays: _Arrays, details: Mapping[str, Any]) -> FaceCrops:
    rows, images = arrays["placement"], details["images"]
    if rows.shape != (len(images), _PLACEMENT_COLUMNS) or not 1 <= len(images) <= MAX_FACES or images != sorted(images):
        raise InversionFormatError
    crops = tuple(_read_crop(row, index, details["crop_size"]) for row, index in zip(rows, images, strict=True))
    faces = Faces(tuple(crop.face for crop in crops), details["num_images"], details["height"], details["width"])
    return FaceCrops(crops, faces, size=details["crop_size"])


def _read_crop(row: NDArray[np.float64], image_index: int, size: int) -> FaceCrop:
    confidence = float(row[_CONFIDENCE])
    if np.abs(row).max() > 2**20 or not 0.0 <= confidence <= 1.0:
        raise InversionFormatError
    left, top, right, bottom = (float(value) for value in row[_BOX])
    face = Face(image_index, (left, top, right, bottom), row[_LANDMARKS].reshape(5, 2).copy(), confidence)
    crop_to_image = row[_AFFINE].reshape(2, 3).copy()
    if abs(float(np.linalg.det(crop_to_image[:, :2]))) < 1e-6:
        raise InversionFormatError
    return FaceCrop(face, size, crop_to_image, transform_points(invert_affine(crop_to_image), face.landmarks5))


def _read_noise(arrays: _Arrays, details: Mapping[str, Any]) -> NoiseMap:
    latent, sigmas = arrays["noise"], arrays["sigmas"]
    if latent.ndim != 4 or latent.shape[2] != latent.shape[3] or sigmas.ndim != 1 or not 2 <= len(sigmas) <= 1001:
        raise InversionFormatError
    cell, rest = divmod(details["crop_size"], latent.shape[2])
    if rest or cell not in CELL_SIDES:
        raise InversionFormatError
    if sigmas[-1] != 0.0 or not bool((sigmas[:-1] > sigmas[1:]).all()):
        raise InversionFormatError
    return NoiseMap(_tensor(latent), tuple(sigmas.tolist()), details["residual"])


def _read_tokens(arrays: _Arrays) -> dict[str, StageTokens]:
    names = {f"tokens.{encoder}.{part}" for encoder in ENCODERS for part in ("offsets", "base")}
    if not set(arrays) <= names | {"noise", "sigmas", "placement"}:
        raise InversionFormatError
    tokens = {}
    for encoder in ENCODERS:
        offsets, base = arrays.get(f"tokens.{encoder}.offsets"), arrays.get(f"tokens.{encoder}.base")
        if offsets is not None:
            tokens[encoder] = StageTokens(_tensor(offsets), None if base is None else _tensor(base))
        elif base is not None:
            raise InversionFormatError
    return tokens


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
