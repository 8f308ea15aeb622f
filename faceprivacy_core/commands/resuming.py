"""Runs that go on: options, and which of a plan is still to be done."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .inputs import Plan
from .manifest import Entry, Manifest, State, in_shard

NO_SETTINGS = (
    "inputs", "out", "force", "recursive", "device", "dry_run", "json", "resume", "retry_failed", "shard", "workers", "words",
    "program", "run",
)  # fmt: skip
"""Options that change no result."""
MOST_WORKERS = 256
ENDINGS = (".png", ".json", ".fpinv", ".fprv", ".mp4", ".mkv", ".frames.jpg", ".faces.png")
"""Of the results of one input."""


def add_resuming_options(parser: Any) -> None:
    """Add the options of runs over many files."""
    group = parser.add_argument_group("long runs")
    group.add_argument(
        "--resume", action="store_true",
        help="keep a hidden list of what is done in DIR, and go on with it: finished results stay, changed inputs come again",
    )  # fmt: skip
    group.add_argument("--retry-failed", action="store_true", help="with --resume: try again what failed")
    group.add_argument(
        "--shard", type=parse_shard, default=(1, 1), metavar="I/N", help="do the I-th of N equal parts, chosen by name"
    )


def add_workers_option(parser: Any) -> None:
    """Add --workers, for commands that compute long."""
    parser.add_argument(
        "--workers", type=parse_workers, default=1, metavar="N",
        help="processes that share the work, each with a model of its own (default: %(default)s)",
    )  # fmt: skip


def parse_shard(text: str) -> tuple[int, int]:
    """Read 2/8 as (2, 8)."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second) <= 100_000):
        raise argparse.ArgumentTypeError(f"Expected a part such as 2/8, got {text!r}.")
    return int(first), int(second)


def parse_workers(text: str) -> int:
    """Read a number of processes."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"Expected 1 to {MOST_WORKERS} processes, got {text!r}.")
    return int(text)


@dataclass(frozen=True)
class Task:
    """One input to be done.

    Attributes:
        path: The input.
        target: Path of its results without ending.
        name: On the list.
        replace: Whether what stands there is of this run and may be replaced.
    """

    path: Path
    target: Path
    name: str
    replace: bool


class Progress:
    """What of a plan is to be done, and the list of what was."""

    def __init__(self, plan: Plan, args: argparse.Namespace, manifest: Manifest | None) -> None:
        self.manifest = manifest
        self._plan, self._args = plan, args
        self.kept: list[Path] = []
        self.count = len(plan.pictures)
        self.failed_before: dict[Path, str] = {}

    def tasks(self) -> list[Task]:
        """Return what is to be done, in order; fills `kept` and `failed_before`."""
        plan, args = self._plan, self._args
        shard = getattr(args, "shard", (1, 1))
        wanted: list[tuple[str, Path, Path]] = []
        for path in plan.pictures:
            target = plan.target(path, args.out)
            name = target.relative_to(args.out).as_posix()
            if path not in plan.refused and in_shard(name, shard):
                wanted.append((name, path, target))
        self.count = len(plan.pictures) if shard[1] == 1 else len(wanted)
        if self.manifest is None:
            return [Task(path, target, name, False) for name, path, target in wanted]
        self.manifest.add((name, path) for name, path, _ in wanted)
        return [task for one in wanted if (task := self._task(*one)) is not None]

    def _task(self, name: str, path: Path, target: Path) -> Task | None:
        manifest = self.manifest
        entry: Entry | None = manifest.find(name) if manifest else None
        if entry is None or manifest is None or entry.state is State.PENDING:
            return Task(path, target, name, False)
        if entry.state is State.FAILED and not self._args.retry_failed:
            self.failed_before[path] = entry.reason
            return None
        if entry.state is State.DONE and manifest.is_whole(entry, path):
            self.kept.append(path)
            return None
        # What failed may have failed because something of somebody else's stands there.
        return Task(path, target, name, entry.state is not State.FAILED or bool(entry.outputs))

    def begin(self, task: Task) -> None:
        if self.manifest is not None:
            is_free = not any(os.path.lexists(result) for result in _results(task))
            self.manifest.begin(task.name, task.path, owns=task.replace or is_free)

    def finish(self, task: Task) -> None:
        if self.manifest is not None:
            self.manifest.finish(task.name, [path for path in _results(task) if path.is_file()])

    def fail(self, task: Task, reason: str) -> None:
        if self.manifest is not None:
            self.manifest.fail(task.name, task.path, reason)


def _results(task: Task) -> list[Path]:
    return [task.target.with_name(task.target.name + ending) for ending in ENDINGS]


def open_manifest(args: argparse.Namespace) -> Any:
    """Open the list of a run that goes on; a context without one otherwise.

    Raises:
        InputError: The list cannot be used, or an option needs --resume.
    """
    if not getattr(args, "resume", False) or getattr(args, "dry_run", False):
        if getattr(args, "retry_failed", False):
            raise InputError("Expected --retry-failed together with --resume, got it alone.")
        return nullcontext(None)
    return Manifest(args.out, run_settings(args), args.shard)


def run_settings(args: argparse.Namespace) -> dict[str, str]:
    """Return everything that changes the results of a run, by option, and the program and model that make them."""
    from ..builtin.model import DEFAULT_FILE
    from ..weights import file_sha256
    from .version import find_version

    settings = {name.replace("_", "-"): str(value) for name, value in sorted(vars(args).items()) if name not in NO_SETTINGS}
    command = str(args.run.__module__).rpartition(".")[2]
    return settings | {"command": command, "model": file_sha256(DEFAULT_FILE), "version": find_version()}
