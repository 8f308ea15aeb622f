"""The run over picture files: one that fails is not written, and the others are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import FacePrivacyError
from ..files import make_folder
from .console import say
from .inputs import Plan


def add_run_options(parser: Any) -> None:
    """Add the options of every command that writes one result for every picture."""
    parser.add_argument("--recursive", action="store_true", help="take the subfolders of folders, too")
    parser.add_argument("--force", action="store_true", help="replace results that are there already")


def write_each(plan: Plan, args: argparse.Namespace, write: Callable[[Path, Path], str]) -> int:
    """Write the result of every picture and say what became of every file.

    Args:
        plan: What to read.
        args: With the folder `out` for the results, which is made if it is missing.
        write: Writes the result of one picture, given its path and that of the result without
            ending, and returns what to say of it; on an error, nothing of this picture may have
            been written.

    Returns:
        Exit status: 0 when every picture was written, 1 otherwise.
    """
    make_folder(args.out)
    for path, reason in plan.passed_over:
        say(f"{path}: passed over, {reason}.")
    for path, reason in plan.refused.items():
        say(f"{path}: not written. {reason}", sys.stderr)
    failed, written = len(plan.refused), 0
    for path in plan.pictures:
        if path in plan.refused:
            continue
        try:
            target = plan.target(path, args.out)
            if target.parent != args.out:
                make_folder(target.parent)
            said = write(path, target)
        except FacePrivacyError as error:
            failed += 1
            say(f"{path}: not written. {error}", sys.stderr)
        except OSError as error:
            failed += 1
            say(f"{path}: not written. Expected to read and write files, got: {error.strerror}.", sys.stderr)
        else:
            written += 1
            say(f"{path.name}: {said}")  # outside: a reader of this line that went away is no failure to write
    others = f" {len(plan.passed_over)} other files were passed over." if plan.passed_over else ""
    say(f"{written} of {len(plan.pictures)} pictures written to {args.out}.{others}")
    return 1 if failed else 0
