"""Make the virtual environment and fill it with exactly what requirements.lock names."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

from devtools.commands import environment_without_python_settings, run_quietly
from devtools.console import DevError, say, step
from devtools.paths import LOCK, ROOT, VENV, shown, venv_python

UV_REQUIREMENT = "uv==0.13.9"
STAMP_NAME = "face-privacy-stamp"
MIN_PYTHON = (3, 10)
NEEDED_BYTES = 10 * 1024**3


def stamp_of(lock: Path, python: tuple[int, int]) -> str:
    """Return the fingerprint of an environment made from this lock by this Python."""
    digest = hashlib.sha256(lock.read_bytes())
    digest.update(f"python {python[0]}.{python[1]}".encode())
    return digest.hexdigest()


def is_current(venv: Path, stamp: str) -> bool:
    """Say whether the environment was finished with this stamp and still has a Python."""
    path = venv / STAMP_NAME
    return venv_python(venv).exists() and path.is_file() and path.read_text() == stamp


def ensure_environment(venv: Path = VENV, lock: Path = LOCK) -> Path:
    """Make or complete the virtual environment; do nothing when it is current.

    Returns:
        The interpreter of the environment.

    Raises:
        DevError: Python is too old, the venv module is missing, there is no room on the disk, or
            a package could not be had.
    """
    _check_python()
    stamp = stamp_of(lock, sys.version_info[:2])
    if is_current(venv, stamp):
        say(f"Packages are in place ({shown(venv)}).")
        return venv_python(venv)
    if not venv_python(venv).exists():
        _check_disk()
        with step(f"Make the virtual environment {shown(venv)}"):
            _make_venv(venv)
    (venv / STAMP_NAME).unlink(missing_ok=True)
    _install(venv, lock)
    (venv / STAMP_NAME).write_text(stamp)
    return venv_python(venv)


def _check_python() -> None:
    if sys.version_info[:2] < MIN_PYTHON:
        raise DevError(
            f"Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer is needed; this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}. Run dev.py with a newer interpreter."
        )


def _check_disk() -> None:
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        raise DevError(
            f"About {NEEDED_BYTES / 1024**3:.0f} GiB are needed beside the repository for torch "
            f"and the other packages; {free / 1024**3:.1f} GiB are free. Free some space first."
        )


def _make_venv(venv: Path) -> None:
    if importlib.util.find_spec("venv") is None:
        raise DevError(
            "The venv module of Python is missing. On Debian and Ubuntu: "
            "apt-get install python3-venv; then run the command again."
        )
    has_own_pip = importlib.util.find_spec("ensurepip") is not None
    options = ["--clear"] if has_own_pip else ["--clear", "--without-pip"]
    run_quietly(
        [sys.executable, "-m", "venv", *options, venv],
        failure="The virtual environment could not be made.",
        env=environment_without_python_settings(),
    )
    if not has_own_pip:
        _bring_pip(venv)


def _bring_pip(venv: Path) -> None:
    """Put pip into an environment on systems that split ensurepip off (Debian)."""
    if importlib.util.find_spec("pip") is None:
        raise DevError(
            "This Python has neither ensurepip nor pip. On Debian and Ubuntu: "
            "apt-get install python3-venv python3-pip; then run the command again."
        )
    run_quietly(
        [sys.executable, "-m", "pip", "--python", venv_python(venv), "install", "pip"],
        failure="pip could not be put into the virtual environment.",
    )


def _install(venv: Path, lock: Path) -> None:
    python = venv_python(venv)
    with step(f"Fetch the installer ({UV_REQUIREMENT})"):
        run_quietly(
            [python, "-m", "pip", "install", "--quiet", UV_REQUIREMENT],
            failure=f"{UV_REQUIREMENT} could not be installed.",
            env=environment_without_python_settings(),
        )
    count = sum(1 for line in lock.read_text().splitlines() if line[:1].isalnum())
    with step(f"Install the packages of {shown(lock)} ({count} lines, some GB the first time)"):
        run_quietly(
            [python, "-m", "uv", "pip", "install", "--python", python] + ["--require-hashes", "--quiet", "-r", lock],
            failure="The packages could not be installed.",
            env=installer_settings(python),
        )


def installer_settings(python: Path) -> dict[str, str]:
    """Carry the index and the certificate that pip is set to over to uv, which reads neither."""
    env = environment_without_python_settings()
    env.setdefault("UV_HTTP_TIMEOUT", "300")
    if "PIP_CERT" in env:
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & env.keys():
        listing = run_quietly([python, "-m", "pip", "config", "list"], failure="pip failed.")
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.rsplit(".", 1)[-1] == "index-url" and value:
                env["UV_DEFAULT_INDEX"] = value.strip("'\"")
    return env
