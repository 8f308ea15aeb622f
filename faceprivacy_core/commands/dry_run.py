"""`--dry-run`: show which faces a command would change, and change none."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .each_picture import write_each

if TYPE_CHECKING:
    from ..faces.select import Selection

SUFFIX = ".faces.png"


def add_dry_run_option(parser: Any) -> None:
    """Add --dry-run to a command."""
    parser.add_argument(
        "--dry-run", action="store_true",
        help="change nothing: write DIR/NAME.faces.png with the chosen faces numbered. It shows the ORIGINAL faces",
    )  # fmt: skip


def show_faces(pictures: Sequence[Path], args: argparse.Namespace, selection: Selection) -> int:
    """Write every picture with its chosen faces numbered; 0 when all were written.

    Args:
        pictures: Files to read.
        args: Of the command: `out` and `region`.
        selection: Which faces the command would change.
    """
    from PIL import Image

    from ..faces.detect import load_detector
    from ..faces.preview import draw_numbers
    from ..faces.select import detect_faces
    from ..masks import MaskSettings, Region, draw_masks
    from .pictures import read_picture

    detector, mask = load_detector(), MaskSettings(Region(args.region))

    def show(path: Path) -> str:
        picture = read_picture(path)
        faces = detect_faces([picture], detector, selection)
        shown = draw_numbers(picture, faces.items, draw_masks(faces, mask)[0].numpy())
        Image.fromarray(shown).save(args.out / (path.stem + SUFFIX))
        return f"{len(faces)} face(s), shown in {path.stem}{SUFFIX}"

    return write_each(pictures, args.out, show)
