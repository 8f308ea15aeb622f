"""Saved people on disk: a safetensors file.

    tensors   NAME  (M, D) float32, rows of length 1: the same M faces as the recogniser NAME sees them
    metadata  format, version, recognizers (JSON: the sha256 of the weights of each NAME)

It holds neither pictures nor names, dates or places. It is biometric data all the same: only its owner may read it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .. import weights
from ..errors import InputError
from ..files import NewFile
from .people import People
from .specs import RECOGNIZER_NAMES

SUFFIX = ".fpperson"
FORMAT, VERSION = "faceprivacy-person", "1"
MAX_BYTES = 16 * 2**20
HEADER_BYTES = 2**12
"""Beginning of the file, in which its format stands."""
MAX_FACES = 1024
MAX_WIDTH = 4096
LENGTH_TOLERANCE = 1e-3


def people_file(path: Path, people: People) -> NewFile:
    """Return the file of people, to be written.

    Args:
        path: The file, by custom NAME.fpperson. Its name is seen by everybody who sees the file.
        people: With vectors of recognisers of this pack.

    Raises:
        InputError: A recogniser is not of this pack, so its weights are not known; or there are too many faces.
    """
    foreign = [name for name in people.vectors if name not in RECOGNIZER_NAMES]
    if foreign or len(people) > MAX_FACES:
        raise InputError(
            f"Expected at most {MAX_FACES} faces seen by some of {', '.join(RECOGNIZER_NAMES)}, got {len(people)} seen by "
            f"{', '.join(people.vectors)}. Save them with recognisers of this pack."
        )
    hashes = {name: weights.entry(name).sha256 for name in sorted(people.vectors)}
    tensors = {name: people.vectors[name].detach().cpu().float().contiguous() for name in hashes}
    content = save(tensors, {"format": FORMAT, "version": VERSION, "recognizers": json.dumps(hashes)})
    return NewFile(Path(path), content, private=True)


def read_people(path: Path) -> People:
    """Read saved people.

    Raises:
        InputError: There is no such file; it is another one, damaged, or of recognisers with other weights.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _foreign(path)
        with safe_open(str(path), framework="pt") as stored:
            metadata = stored.metadata() or {}
            if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
                raise _foreign(path)
            names = sorted(stored.keys())
            _check_recognizers(path, metadata.get("recognizers", ""), names)
            vectors = {name: stored.get_tensor(name) for name in names}
    except OSError as error:
        raise InputError(f"Expected a saved person at {path}, got: {error.strerror or error}.") from None
    except SafetensorError:
        raise _foreign(path) from None
    if not all(_is_rows(rows) for rows in vectors.values()):
        raise _foreign(path)
    try:
        return People(vectors)
    except InputError:
        raise _foreign(path) from None


def _check_recognizers(path: Path, text: str, names: list[str]) -> None:
    try:
        hashes = json.loads(text)
    except (ValueError, RecursionError):
        raise _foreign(path) from None
    if not names or type(hashes) is not dict or sorted(hashes) != names:
        raise _foreign(path)
    for name in names:
        if name not in RECOGNIZER_NAMES or hashes[name] != weights.entry(name).sha256:
            raise InputError(
                f"Expected a person as recognisers of this pack see them, {path.name} was made with another {name!r}. Save the "
                "person again from the photos."
            )


def _is_rows(rows: torch.Tensor) -> bool:
    if rows.dtype != torch.float32 or rows.ndim != 2 or len(rows) > MAX_FACES or not 1 <= rows.shape[1] <= MAX_WIDTH:
        return False
    return bool(((rows.norm(dim=1) - 1.0).abs() <= LENGTH_TOLERANCE).all())  # False for NaN, too


def _foreign(path: Path) -> InputError:
    return InputError(
        f"Expected a file of a saved person, {path.name} is another file or a damaged one. Save the person again from the "
        "photos."
    )
