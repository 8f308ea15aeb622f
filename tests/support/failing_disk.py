"""A disk that fails, or a program that is stopped or killed, at a chosen step of writing."""

from __future__ import annotations

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

WRITING = set("wax+")


class Disk:
    """Counts the steps by which files come to be.

    Attributes:
        steps: Counted so far.
        has_failed: Whether the chosen one was reached.
        foreign: Files of the watched folder that were opened for writing past the pack's one writer.
    """

    def __init__(self, at: int, fail: Callable[[], NoReturn]) -> None:
        self.steps, self.has_failed, self.foreign = 0, False, []
        self._at, self._fail = at, fail

    def step(self, before: Callable[[], object] = lambda: None) -> None:
        """Count a step; fail here if it is the chosen one, after `before` was done."""
        self.steps += 1
        if self.steps == self._at:
            self.has_failed = True
            before()
            self._fail()


class _Stream:
    """A file that may fail when half of the bytes are on the disk."""

    def __init__(self, stream: Any, disk: Disk) -> None:
        self._stream, self._disk = stream, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, content: bytes) -> int:
        self._disk.step(before=lambda: (self._stream.write(content[: len(content) // 2]), self._stream.flush()))
        return self._stream.write(content)


@contextmanager
def failing_disk(at: int, fail: Callable[[], NoReturn], *, watched: Path) -> Iterator[Disk]:
    """Let the step `at` (from 1) fail: making a file or a folder, writing, bringing to the disk, giving a name.

    Args:
        at: Number of the step; 0 lets none fail.
        fail: Raises, or ends the process.
        watched: Folder in which nothing but the pack's one writer may write.
    """
    disk, real_open, real_fdopen = Disk(at, fail), os.open, os.fdopen

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            disk.step()
            return real(*args, **options)

        return call

    def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            disk.step()
        return real_open(path, flags, *args, **options)

    def stream(descriptor: int, mode: str = "r", *args: Any, **options: Any) -> Any:
        made = real_fdopen(descriptor, mode, *args, **options)
        return _Stream(made, disk) if WRITING & set(mode) else made

    def looked_at(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if WRITING & set(mode) and isinstance(path, (str, Path)) and Path(path).is_relative_to(watched):
            disk.foreign.append(str(path))
        return plain_open(path, mode, *args, **options)

    plain_open = builtins.open
    changes = {name: counted(getattr(os, name)) for name in ("fsync", "replace", "rename", "link", "mkdir")}
    with ExitStack() as patches:
        patches.enter_context(mock.patch.multiple(os, open=opened, fdopen=stream, **changes))
        for module in (builtins, io):
            patches.enter_context(mock.patch.object(module, "open", looked_at))
        yield disk


class Remembered:
    """A function that takes long: called once, and its result given again."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real, self._results = real, []

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not self._results:
            self._results.append(self._real(*args, **options))
        return self._results[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by their names; none where there is no folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fill(folder: Path, files: dict[str, bytes]) -> None:
    """Let a folder hold these files and no others; without any it is not there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)
