"""Run other programs: quietly with their output kept, or as the program in front."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from devtools.console import DevError
from devtools.paths import ROOT

TAIL_LINES = 15
INTERRUPTED = 130
NETWORK_HINTS = (
    "resolve",
    "connection",
    "network",
    "timed out",
    "dns",
    "unreachable",
    "certificate",
    "no matching distribution",
)
DISK_HINTS = ("no space left", "disk full", "not enough space", "errno 28")


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last lines that say something, indented."""
    kept = [line for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in kept)


def advice_for(output: str) -> str:
    """Return what to do about a failed program, guessed from what it wrote."""
    lowered = output.lower()
    if any(hint in lowered for hint in DISK_HINTS):
        return "The disk is full. Free about 15 GB and run the command again."
    if "hashes are required" in lowered or "hash mismatch" in lowered:
        return (
            "A package is not the one that requirements.lock names. Check the package index that "
            "this machine uses; do not go on with that package."
        )
    if any(hint in lowered for hint in NETWORK_HINTS):
        return (
            "The package index could not be reached, or does not hold the file. Check the network "
            "connection and the settings of pip (index, proxy, certificate), then run it again."
        )
    return "Read the lines above, mend the cause and run the command again."


def run_quietly(
    arguments: Sequence[str | Path],
    *,
    failure: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout_s: float | None = None,
) -> str:
    """Run a program without showing its output.

    Args:
        arguments: program and arguments; no shell is involved.
        failure: first sentence of the error when the program fails.
        env: whole environment, or `None` for this process's own.
        cwd: folder to run in.
        timeout_s: seconds after which the program is ended; `None` waits for ever.

    Returns:
        Standard output and standard error, as they came.

    Raises:
        DevError: the program is missing, failed or took too long.
    """
    command = [str(part) for part in arguments]
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise DevError(f"{failure} The program {command[0]!r} was not found.") from error
    except subprocess.TimeoutExpired as error:
        raise DevError(f"{failure} It had not ended after {timeout_s:.0f} s.") from error
    if result.returncode != 0:
        raise DevError(
            f"{failure} It ended with status {result.returncode}; its last lines were:\n"
            f"{tail(result.stdout)}\n{advice_for(result.stdout)}"
        )
    return result.stdout


def run_in_front(arguments: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> int:
    """Run a program with this terminal and return its exit status, or 130 after Ctrl-C.

    Ctrl-C reaches the program through the terminal; a termination signal is passed on. In both
    cases the program is waited for, so that it can clean up.
    """
    was_interrupted = False
    process = subprocess.Popen([str(part) for part in arguments], cwd=ROOT, env=dict(env) if env is not None else None)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        while True:
            try:
                status = process.wait()
                return INTERRUPTED if was_interrupted else status
            except KeyboardInterrupt:
                was_interrupted = True
    finally:
        signal.signal(signal.SIGTERM, previous)


def environment_without_python_settings() -> dict[str, str]:
    """Return this environment without variables that change what Python imports."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in dropped}
