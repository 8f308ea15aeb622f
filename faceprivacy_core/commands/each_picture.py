"""The run over picture files: one that fails is not written, and the others are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import FacePrivacyError
from .console import say


def write_each(pictures: Sequence[Path], out: Path, write: Callable[[Path], str]) -> int:
    """Write the result of every picture and say what became of it.

    Args:
        pictures: Files to read.
        out: Folder for the results; made if it is missing.
        write: Writes the result of one picture and returns what to say of it; on a
            FacePrivacyError, nothing of this picture may have been written.

    Returns:
        Exit status: 0 when every picture was written.
    """
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in pictures:
        try:
            say(f"{path.name}: {write(path)}")
        except FacePrivacyError as error:
            failed += 1
            say(f"{path}: not written. {error}", sys.stderr)
    say(f"{len(pictures) - failed} of {len(pictures)} pictures written to {out}.")
    return 1 if failed else 0
