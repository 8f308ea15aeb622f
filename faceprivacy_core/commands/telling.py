"""What a run over files says: lines for people, or with --json one event a line for programs."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .console import say


def add_json_option(parser: Any) -> None:
    """Add --json to a command that says what becomes of every file."""
    parser.add_argument(
        "--json", action="store_true", help="say everything as events, one JSON document a line (docs/report.md), for programs"
    )


def in_number(count: int, what: str) -> str:
    """Say how many there are of something, in English; its plural ends in s."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


@dataclass(eq=False)
class Teller:
    """Says what becomes of every file.

    Attributes:
        as_json: Write events instead of lines.
        count: Files that are to be done.
        done: Files that were done so far, well or not.
    """

    as_json: bool = False
    count: int = 0
    done: int = 0
    _started: float = field(default_factory=time.monotonic)

    def begin(self, count: int) -> None:
        """Note how many files are to be done from now on."""
        self.count, self.done, self._started = count, 0, time.monotonic()

    def passed_over(self, path: Path, reason: str) -> None:
        """Say that a file is none that the command takes."""
        self._say("passed over", path, reason, f"{path}: passed over, {reason}.")

    def refused(self, path: Path, reason: str) -> None:
        """Say that a file will not be tried."""
        self._say("refused", path, reason, f"{path}: not written. {reason}", is_bad=True)

    def failed_before(self, path: Path, reason: str) -> None:
        """Say that a file failed in an earlier run and is not tried again."""
        self._say(
            "failed before", path, reason, f"{path}: not written in an earlier run, see --retry-failed. {reason}", is_bad=True
        )

    def written(self, path: Path, said: str) -> None:
        """Say that the result of a file was written."""
        self.done += 1
        self._say("written", path, said, f"{path.name}: {said}{self._rest()}", **self._place())

    def failed(self, path: Path, reason: str) -> None:
        """Say that the result of a file was not written."""
        self.done += 1
        self._say("failed", path, reason, f"{path}: not written. {reason}{self._rest()}", is_bad=True, **self._place())

    def end(self, line: str, **counts: int) -> None:
        """Say how the run ended."""
        say(json.dumps({"event": "end", **counts}) if self.as_json else line)

    def _say(self, event: str, path: Path, text: str, line: str, *, is_bad: bool = False, **more: Any) -> None:
        if self.as_json:
            say(json.dumps({"event": event, "input": str(path), "text": text, **more}))
        else:
            say(line, sys.stderr if is_bad else None)

    def _place(self) -> dict[str, Any]:
        return {"number": self.done, "of": self.count, "seconds_left": round(self._seconds_left(), 1)}

    def _seconds_left(self) -> float:
        return (time.monotonic() - self._started) / max(1, self.done) * max(0, self.count - self.done)

    def _rest(self) -> str:
        is_last = self.done >= self.count
        return "" if is_last else f" ({self.done} of {self.count}, {time_text(self._seconds_left())} left)"


def time_text(seconds: float) -> str:
    """Return a time in the largest unit of which there are two, rounded up: 90 s, 2 min, 3 h."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{math.ceil(seconds / length)} {unit}"
    return f"{math.ceil(seconds)} s"
