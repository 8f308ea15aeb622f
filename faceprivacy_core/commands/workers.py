"""Processes that share a run: each runs the same command with a model of its own and is told one input after the other.

What they are told are words and paths, never a key: a worker that needs one reads it itself, as the command does.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

MOST_DEATHS = 2
"""How often a worker may die over one input before the input counts as failed."""
LEAVE_S = 10.0

Program = Callable[[Sequence[str]], int]
"""The command line, as `commands.main`: words to exit status."""
Outcome = tuple[bool, str]
"""Whether an input was written, and what to say of it."""
_told: list[Connection] = []


@dataclass(frozen=True)
class Job:
    """One input.

    Attributes:
        name: On the list.
        path, target: The input, and its results without ending.
        replace: Whether what stands there may be replaced.
        deaths: How many workers died over it.
    """

    name: str
    path: Path
    target: Path
    replace: bool
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    is_ready: bool = False


@dataclass(eq=False)
class _Crew:
    """The workers of a run; one that died is replaced."""

    program: Program
    words: Sequence[str]
    count: int
    workers: list[_Worker] = field(default_factory=list)

    def hire(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(self.program, list(self.words), theirs, self.count), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))

    def dismiss(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join(LEAVE_S)
        self.workers.remove(worker)


def is_worker() -> bool:
    """Tell whether this process is a worker of another one."""
    return bool(_told)


def share(
    jobs: Iterable[Job], program: Program, words: Sequence[str], count: int, begin: Callable[[str], None]
) -> Iterator[tuple[Job, Outcome]]:  # fmt: skip
    """Let workers do jobs; yields each as it is done, in any order.

    Args:
        jobs: What is to be done.
        program: What every worker runs; a function of a module.
        words: What it is given.
        count: Number of workers.
        begin: Told the name of a job before a worker is.
    """
    queue, crew, broken = deque(jobs), _Crew(program, words, count), 0
    try:
        while queue or any(worker.job for worker in crew.workers):
            while len(crew.workers) < min(count, len(queue) + sum(worker.job is not None for worker in crew.workers)):
                crew.hire()
            for worker in [one for one in crew.workers if one.is_ready and one.job is None and queue]:
                worker.job = queue.popleft()
                try:
                    begin(worker.job.name)
                except OSError as error:
                    job, worker.job = worker.job, None
                    yield job, (False, f"Expected to read the file, got: {error.strerror}.")
                    continue
                worker.connection.send((str(worker.job.path), str(worker.job.target), worker.job.replace))
            ready = wait([worker.connection for worker in crew.workers])
            for worker in [one for one in crew.workers if one.connection in ready]:
                try:
                    heard = worker.connection.recv()
                except (EOFError, OSError):
                    job = worker.job
                    crew.dismiss(worker)
                    if job is None:
                        broken += 1
                        if broken > MOST_DEATHS * count:
                            raise ChildProcessError("no worker can be started") from None
                    elif job.deaths + 1 >= MOST_DEATHS:
                        reason = (
                            f"Expected a worker to do it, {MOST_DEATHS} died over it. It may need more memory: fewer --workers."
                        )
                        yield job, (False, reason)
                    else:
                        queue.appendleft(replace(job, deaths=job.deaths + 1, replace=True))
                    continue
                if heard is None:
                    worker.is_ready = True
                elif worker.job is not None:
                    job, worker.job = worker.job, None
                    yield job, heard
    finally:
        for worker in crew.workers:
            worker.connection.close()  # a worker that hears no more ends
            if worker.job is not None:
                worker.process.terminate()
        for worker in list(crew.workers):
            worker.process.join(LEAVE_S)


def serve(do: Callable[[Path, Path, bool], Outcome]) -> int:
    """Do what the other process says until it says no more; exit status 0."""
    (connection,) = _told
    connection.send(None)
    while True:
        try:
            path, target, is_replaced = connection.recv()
        except (EOFError, OSError):
            return 0
        connection.send(do(Path(path), Path(target), is_replaced))


def _run(program: Program, words: list[str], connection: Connection, count: int) -> None:
    """Begin a worker: the command as it was typed, without bars."""
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    _told.append(connection)
    try:
        program(words)
    except KeyboardInterrupt:
        return
