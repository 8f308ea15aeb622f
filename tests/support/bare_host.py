"""A host as a stranger has it: an environment with the host's own packages only, and the pack as a download brings it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools.comfyui import BASE_FOLDERS
from devtools.console import DevError
from devtools.environment import installer_settings
from devtools.paths import HOST_TREE, LOCK, PACK_NAME, ROOT, venv_python

NOT_DOWNLOADED = shutil.ignore_patterns(
    ".git", ".venv", ".host", ".cache", "output", "models", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
)


def make_environment(folder: Path) -> Path:
    """Make an environment that holds what the host's own requirements name; return its Python.

    Versions are those of the lock, which the installer has in its cache.
    """
    uv("venv", "--quiet", "--seed", "--python", sys.executable, folder)
    python = venv_python(folder)
    install(python, HOST_TREE / "requirements.txt")
    return python


def install(python: Path, requirements: Path) -> None:
    """Install a list of requirements as the manager does, without a network where the installer's cache has it all."""
    versions = python.parent / "versions.txt"
    lines = [line.split("\\")[0].strip() for line in LOCK.read_text().splitlines() if line[:1].isalnum()]
    versions.write_text("\n".join(lines))
    arguments = ["pip", "install", "--quiet", "--python", python, "--constraint", versions, "--requirement", requirements]
    try:
        uv(*arguments, "--offline")
    except DevError:
        uv(*arguments)


def uv(*arguments: str | Path) -> None:
    """Run the installer that dev.py brought.

    Raises:
        DevError: It failed.
    """
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    result = subprocess.run(command, env=installer_settings(Path(sys.executable)), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DevError(f"{' '.join(command)} failed:\n{result.stderr}")


def copy_pack(base: Path) -> Path:
    """Make a base directory with a copy of the pack in `custom_nodes`; return the copy."""
    for name in BASE_FOLDERS:
        (base / name).mkdir(parents=True)
    return Path(shutil.copytree(ROOT, base / "custom_nodes" / PACK_NAME, ignore=NOT_DOWNLOADED))


def run(command: Sequence[str | Path], folder: Path | None = None) -> str:
    """Run a program as a person does, in a folder, and return what it wrote; it must succeed."""
    words = [str(part) for part in command]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
