"""Run the tests in separate processes and sum up what they said."""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devtools.commands import INTERRUPTED, run_in_front
from devtools.console import say, seconds
from devtools.paths import ROOT

HOST_PARTS = (("host", "workflows", "install"), ("browser",))
"""Folders that need the host; each worker has a running one of its own. Where a browser is open no other event loop may run."""
MAX_WORKERS = 2
NOTHING_COLLECTED = 5


@dataclass
class Tally:
    """Counts over several runs of pytest."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    status: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, report: Path, status: int) -> None:
        """Add one run: its JUnit report and its exit status."""
        if status not in (0, NOTHING_COLLECTED) and self.status == 0:
            self.status = status
        if not report.is_file():
            self.failed += status != NOTHING_COLLECTED
            return
        for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - our own file
            counts = {key: int(suite.get(key, 0)) for key in ("failures", "errors", "skipped")}
            self.failed += counts["failures"] + counts["errors"]
            self.skipped += counts["skipped"]
            self.passed += int(suite.get("tests", 0)) - sum(counts.values())
            self.seconds += float(suite.get("time", 0))
            for case in suite.iter("testcase"):
                for skip in case.iter("skipped"):
                    self.reasons.append(f"{case.get('name')}: {skip.get('message')}")

    def line(self) -> str:
        """Return the last line of the whole run."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def parts(tests: Path) -> list[list[str]]:
    """Return the arguments of each run of pytest: everything without the host comes first."""
    ignored = [f"--ignore={tests.name}/{name}" for group in HOST_PARTS for name in group]
    shared_out = [[tests.name, *ignored], *([f"{tests.name}/{name}" for name in group] for group in HOST_PARTS)]
    return [[*run, *workers()] for run in shared_out]


def workers() -> list[str]:
    """Return the options that share files out over two processors; each worker computes in one thread."""
    count = min(os.cpu_count() or 1, MAX_WORKERS)
    return ["-n", str(count), "--dist", "loadfile"] if count > 1 else []


def run_tests(python: Path, arguments: Sequence[str]) -> int:
    """Run pytest and print the sum.

    Args:
        python: interpreter of the environment.
        arguments: for pytest, in one run; none runs all parts.

    Returns:
        The exit status of the first part that failed, or 0.
    """
    runs = [list(arguments)] if arguments else parts(ROOT / "tests")
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for number, run in enumerate(runs):
            report = Path(folder) / f"{number}.xml"
            say(f"\npytest {' '.join(run)}")
            threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} if "-n" in run else {}
            status = run_in_front([python, "-m", "pytest", f"--junitxml={report}", *run], env={**os.environ, **threads})
            tally.add(report, status)
            if status == INTERRUPTED:
                break
    if tally.reasons:
        say("\nSkipped:")
        for reason in tally.reasons:
            say(f"  {reason}")
    say(f"\nAll parts took {seconds(tally.seconds)}.")
    say(tally.line())
    return tally.status
