"""One calm line for every step, and the one exception of the developer tools."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class DevError(Exception):
    """A step that cannot go on. The text says what was expected, what came and what to do."""


class Stopwatch:
    """Collect the seconds of each phase, in order."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, float]] = []

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Time one phase; a phase that fails is not recorded."""
        start = time.monotonic()
        yield
        self.phases.append((title, time.monotonic() - start))


def say(text: str = "") -> None:
    """Print one line at once, also into a pipe."""
    print(text, flush=True)


def seconds(value: float) -> str:
    """Return a duration for people: `0.4 s`, `75 s`."""
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print `title ... 3.2 s` around a block; on failure the line ends in `failed`."""
    print(f"{title} ... ", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"failed after {seconds(time.monotonic() - start)}", flush=True)
        raise
    print(seconds(time.monotonic() - start), flush=True)


def progress_line(done: float, title: str, width: int = 30) -> str:
    """Return a progress bar of plain characters; `done` runs from 0 to 1."""
    filled = round(max(0.0, min(1.0, done)) * width)
    return f"  [{'#' * filled}{'.' * (width - filled)}] {done:4.0%} {title}"


class ProgressBar:
    """Draw progress on one line of a terminal; into a pipe only each new title is written."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._title = ""
        self._drawn = 0

    def update(self, done: float, title: str) -> None:
        """Show the fraction done and what is running."""
        if self._is_terminal:
            line = progress_line(done, title)[:100]
            print(f"\r{line.ljust(self._drawn)}", end="", flush=True)
            self._drawn = len(line)
        elif title != self._title:
            say(f"  {done:4.0%} {title}")
        self._title = title

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and self._drawn:
            print(f"\r{' ' * self._drawn}\r", end="", flush=True)
            self._drawn = 0
