"""`--dry-run`: show which faces a command would change, and change none."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .each_picture import write_each
from .inputs import Plan

if TYPE_CHECKING:
    from ..masks import MaskSettings
    from ..small_faces import SmallFaces
    from .choosing import FaceChoice

SUFFIX = ".faces.png"


def add_dry_run_option(parser: Any) -> None:
    """Add --dry-run to a command."""
    parser.add_argument(
        "--dry-run", action="store_true",
        help="change nothing: write DIR/NAME.faces.png with the chosen faces numbered. It shows the ORIGINAL faces",
    )  # fmt: skip


def show_faces(
    plan: Plan, args: argparse.Namespace, choice: FaceChoice, small: SmallFaces, mask: MaskSettings
) -> int:  # fmt: skip
    """Write every picture with its chosen faces numbered; 0 when all were written.

    Args:
        plan: What to read.
        args: Of the command: `out` and `force`.
        choice: Which faces the command would change.
        small: What it would do to small ones.
        mask: What it would replace of the others.
    """
    from ..faces.preview import draw_numbers
    from ..files import check_free, write_file
    from ..masks import draw_masks
    from ..picture_files import png_bytes
    from .pictures import read_picture

    detector = choice.load_detector()

    def show(path: Path, target: Path) -> str:
        result = target.with_name(target.name + SUFFIX)
        if not args.force:
            check_free([result])
        picture = read_picture(path)
        faces = choice.find(picture, detector)
        shown = draw_numbers(picture, faces.items, draw_masks(faces, mask)[0].numpy())
        write_file(result, png_bytes(shown), private=True, replace=args.force)
        too_small = sum(small.is_small(face) for face in faces.items)
        fate = "would be pixelated" if small.pixelate else "refuse the picture"
        return f"{len(faces)} face(s), shown in {result.name}" + (f"; {too_small} too small, which {fate}" if too_small else "")

    return write_each(plan, args, show)
