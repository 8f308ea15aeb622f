"""Spoiled files of every kind that the pack reads, and what reads them.

`python -m tests.support.fuzzing TARGET --inputs 20000` tries as many, from one seed. A file that leads to lines of the pack
where none led before is spoiled further itself; `--atheris` lets atheris choose them, where it is installed. A reader
answers, or raises an error of the pack; it takes little time and memory.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import faceprivacy_core
from faceprivacy_core.errors import FacePrivacyError
from tests.support.fuzz_targets import TARGETS, Target
from tests.support.spoiling import spoil

MAX_SECONDS, MAX_BYTES = 5.0, 500 * 2**20
MAX_KEPT, MAX_KEPT_BYTES = 300, 2**16
"""Of files that led to new lines: as many, and no longer ones."""

PACK = str(Path(faceprivacy_core.__file__).parent)


@dataclass
class Tally:
    """What came of a run.

    Attributes:
        answered: Files that were read.
        refused: Files for which an error of the pack was raised.
        kept: Files that led to lines of the pack where none had led.
        slowest: Seconds of the slowest one.
        megabytes: Growth of the process at its peak.
    """

    answered: int = 0
    refused: int = 0
    kept: int = 0
    slowest: float = 0.0
    megabytes: float = 0.0


class Reached:
    """Counts the lines of the pack that run inside of it."""

    def __init__(self) -> None:
        self._lines: set[tuple[str, int]] = set()
        self._former: Any = None

    def __len__(self) -> int:
        return len(self._lines)

    def __enter__(self) -> None:
        self._former = sys.gettrace()
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._former)

    def _call(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        return self._step if frame.f_code.co_filename.startswith(PACK) else None

    def _step(self, frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        self._lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._step


def fuzz(name: str, count: int, seed: int = 0, *, seconds: float = math.inf) -> Tally:
    """Let a reader read that many spoiled files, or as many as it can in some seconds of this process.

    Raises:
        AssertionError: A case was slow or large, or raised something foreign; the file is kept and named.
    """
    target, numbers, tally, reached = TARGETS[name], random.Random(f"{name} {seed}"), Tally(), Reached()
    seeds, started = target.seeds(), time.process_time()
    assert seeds
    kept = list(seeds)
    folder = Path(tempfile.mkdtemp(prefix="faceprivacy-fuzz-"))
    path = folder / f"case{target.suffix}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for _ in range(count):
            spoiled = spoil(numbers.choice(kept), seeds, numbers)
            path.write_bytes(spoiled)
            is_new = _read_one(target, path, tally, reached)
            if is_new and len(spoiled) <= MAX_KEPT_BYTES and tally.kept < MAX_KEPT:
                kept.append(spoiled)
                tally.kept += 1
            if time.process_time() - started > seconds:
                break
    except BaseException:
        sys.stderr.write(f"{name}: the file is {path}\n")
        raise
    path.unlink()
    folder.rmdir()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    tally.megabytes = grown / 2**20
    assert grown < MAX_BYTES, f"{name}: {tally.megabytes:.0f} MB"
    return tally


def _read_one(target: Target, path: Path, tally: Tally, reached: Reached | None = None) -> bool:
    """Let a reader read a file; tell whether it led to new lines."""
    known = 0 if reached is None else len(reached)
    started = time.process_time()
    try:
        with nullcontext() if reached is None else reached:
            target.read(path)
        tally.answered += 1
    except FacePrivacyError:
        tally.refused += 1
    took = time.process_time() - started
    tally.slowest = max(tally.slowest, took)
    assert took < MAX_SECONDS, f"{took:.1f} s"
    return reached is not None and len(reached) > known


def be_quiet() -> None:
    """Let libraries say nothing about damage."""
    warnings.simplefilter("ignore")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="one target, chosen by the package atheris, which it needs")
    options = parser.parse_args()
    be_quiet()
    if options.atheris:
        _let_atheris(options.targets[0], options.inputs)
    for name in options.targets or TARGETS:
        started = time.perf_counter()
        try:
            said = str(fuzz(name, options.inputs, options.seed))
        except Exception:  # noqa: BLE001 - the other targets go on
            said = traceback.format_exc()
        sys.stdout.write(f"{name}: {said}, {time.perf_counter() - started:.0f} s\n")
        sys.stdout.flush()


def _let_atheris(name: str, count: int) -> None:
    import atheris

    target, tally = TARGETS[name], Tally()
    corpus = Path(tempfile.mkdtemp(prefix="faceprivacy-corpus-"))
    for index, seed in enumerate(target.seeds()):
        (corpus / str(index)).write_bytes(seed)
    path = corpus.with_name(f"{corpus.name}-case{target.suffix}")

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _read_one(target, path, tally)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], str(corpus), f"-runs={count}", f"-timeout={int(MAX_SECONDS)}", "-rss_limit_mb=4096"], read)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
