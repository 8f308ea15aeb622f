"""`faceprivacy status DIR`: how far a run has come, and what failed."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import InputError
from .console import say
from .manifest import State, find_manifests, read_entries


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "status",
        help="how far a run with --resume has come",
        description="Counts what is done, what is not, and lists what failed with its reason. Changes nothing. The exit status "
        "is 0 when everything is done.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the results")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say how far the runs of a folder have come; 0 when all is done.

    Raises:
        InputError: There is no run in the folder, or one is using its list.
    """
    lists = find_manifests(args.folder)
    if not lists:
        raise InputError(f"Expected a run with --resume in {args.folder}, found none.")
    counts: Counter[State] = Counter()
    for path in lists:
        for entry in read_entries(path):
            counts[entry.state] += 1
            if entry.state is State.FAILED:
                say(f"{entry.source}: not written. {entry.reason}", sys.stderr)
    say(", ".join(f"{counts[state]} {state.value}" for state in State) + f", {counts.total()} altogether.")
    return 0 if counts[State.DONE] == counts.total() else 1
