"""`faceprivacy inspect FILE...`: what everybody can read of a keyed picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FacePrivacyError
from .console import say

if TYPE_CHECKING:
    from ..keyed.header import FaceHeader


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "inspect",
        help="show the public header of keyed pictures",
        description="Shows what everybody can read of a keyed picture, without a key: where the faces are, how they come "
        "back, and which model they need.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="keyed pictures, or .fprv sidecars")
    parser.add_argument("--json", action="store_true", help="write the headers as one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when every file could be read."""
    found: dict[str, list[dict[str, Any]]] = {}
    failed = 0
    for path in args.inputs:
        try:
            found[str(path)] = _describe(path)
        except FacePrivacyError as error:
            failed += 1
            say(f"{path}: {error}", sys.stderr)
    if args.json:
        say(json.dumps(found, indent=2))
        return 1 if failed else 0
    for name, faces in found.items():
        say(f"{name}: {len(faces)} keyed faces")
        for number, face in enumerate(faces):
            say(f"  face {number}: " + ", ".join(f"{key} {value}" for key, value in face.items()))
    return 1 if failed else 0


def _describe(path: Path) -> list[dict[str, Any]]:
    from ..keyed.container import unpack
    from ..keyed.files import SIDECAR_SUFFIX, read_keyed, read_sidecar

    container = read_sidecar(path) if path.suffix.lower() == SIDECAR_SUFFIX else read_keyed(path)[1]
    return [describe_header(record.header, len(record.blob)) for record in unpack(container)]


def describe_header(header: FaceHeader, sealed_bytes: int) -> dict[str, Any]:
    """Say what everybody can read of one face."""
    matrix = header.crop_to_image
    middle = (header.crop_size - 1) / 2
    centre = [round(matrix[3 * row] * middle + matrix[3 * row + 1] * middle + matrix[3 * row + 2]) for row in (0, 1)]
    return {
        "mode": header.mode.value,
        "cover": header.cover.value,
        "key": "passphrase" if header.kdf else "key file",
        "picture": f"{header.width}x{header.height}",
        "centre": f"{centre[0]},{centre[1]}",
        "model": header.model or "none",
        "steps": header.steps,
        "bound to": header.bind.value,
        "decoy": header.decoy,
        "signed with the other faces": bool(header.signer),
        "sealed bytes": sealed_bytes,
    }
