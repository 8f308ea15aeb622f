"""The run over picture files: one that fails is not written, and the others are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import FacePrivacyError
from ..files import make_folder
from . import workers
from .inputs import Plan
from .resuming import Progress, Task, add_resuming_options, open_manifest
from .telling import Teller, add_json_option, in_number

Write = Callable[[Path, Path], str]


def add_run_options(parser: Any) -> None:
    """Add the options of every command that writes one result for every picture."""
    parser.add_argument("--recursive", action="store_true", help="take the subfolders of folders, too")
    parser.add_argument("--force", action="store_true", help="replace results that are there already")
    add_json_option(parser)
    add_resuming_options(parser)


def write_each(plan: Plan, args: argparse.Namespace, write: Write | None) -> int:
    """Write the result of every picture and say what became of every file.

    Args:
        plan: What to read.
        args: With the folder `out` for the results, which is made if it is missing. `force` is set while results of an
            earlier attempt of the same run are replaced.
        write: Writes the result of one picture, given its path and that of the result without
            ending, and returns what to say of it; on an error, nothing of this picture may have
            been written. None where other processes do it.

    Returns:
        Exit status: 0 when every picture was written, 1 otherwise.
    """
    if workers.is_worker() and write is not None:
        return workers.serve(lambda path, target, replace: write_one(args, write, path, target, replace=replace))
    make_folder(args.out)
    tell = Teller(getattr(args, "json", False))
    for path, reason in plan.passed_over:
        tell.passed_over(path, reason)
    for path, reason in plan.refused.items():
        tell.refused(path, reason)
    with open_manifest(args) as manifest:
        progress = Progress(plan, args, manifest)
        tasks = progress.tasks()
        for path, reason in progress.failed_before.items():
            tell.failed_before(path, reason)
        tell.begin(len(tasks))
        done = (
            _share(tasks, args, progress, tell) if write is None else (_do(task, args, write, progress, tell) for task in tasks)
        )
        written = sum(done)
    others = f" Other files passed over: {len(plan.passed_over)}." if plan.passed_over else ""
    kept = f" {len(progress.kept)} were there already." if progress.kept else ""
    status = 1 if written < len(tasks) or plan.refused or progress.failed_before else 0
    tell.end(
        f"{written} of {in_number(progress.count, 'picture')} written to {args.out}.{kept}{others}",
        written=written, of=progress.count, kept=len(progress.kept), passed_over=len(plan.passed_over), status=status,
    )  # fmt: skip
    return status


def write_one(args: argparse.Namespace, write: Write, path: Path, target: Path, *, replace: bool) -> tuple[bool, str]:
    """Write the result of one picture; say whether it was, and what is to be said of it."""
    before = getattr(args, "force", False)
    args.force = before or replace
    try:
        if target.parent != args.out:
            make_folder(target.parent)
        return True, write(path, target)
    except FacePrivacyError as error:
        return False, str(error)
    except OSError as error:
        return False, f"Expected to read and write files, got: {error.strerror}."
    finally:
        args.force = before


def _do(task: Task, args: argparse.Namespace, write: Write, progress: Progress, tell: Teller) -> bool:
    try:
        progress.begin(task)
    except OSError as error:
        return _note(task, progress, tell, False, f"Expected to read the file, got: {error.strerror}.")
    return _note(task, progress, tell, *write_one(args, write, task.path, task.target, replace=task.replace))


def _note(task: Task, progress: Progress, tell: Teller, is_written: bool, said: str) -> bool:
    """Put down what became of an input, and say it."""
    if is_written:
        progress.finish(task)
        tell.written(task.path, said)
    else:
        progress.fail(task, said)
        tell.failed(task.path, said)
    return is_written


def _share(tasks: Sequence[Task], args: argparse.Namespace, progress: Progress, tell: Teller) -> Iterator[bool]:
    """Let other processes do the tasks; say of each whether it was done."""
    by_name = {task.name: task for task in tasks}
    jobs = (workers.Job(task.name, task.path, task.target, task.replace) for task in tasks)
    count = max(1, min(args.workers, len(tasks)))
    for job, (is_written, said) in workers.share(
        jobs, args.program, args.words, count, lambda name: progress.begin(by_name[name])
    ):
        yield _note(by_name[job.name], progress, tell, is_written, said)
