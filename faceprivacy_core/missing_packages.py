"""What to do when the host cannot import the pack. Uses the standard library alone, for nothing else may be there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from .terminal import typed

HOST_MODULES = frozenset({"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths"})
"""Modules that only the host has; one that is missing there means that the host is too old."""

NEEDED_HOST = "0.30.0"


def advice(error: ImportError, pack: Path) -> str:
    """Say what to run so that the pack can be imported.

    Args:
        error: What the import raised.
        pack: Folder of the pack.

    Returns:
        A text of several lines, with commands that can be typed as they stand on this machine.
    """
    if (error.name or "").split(".")[0] in HOST_MODULES:
        return f"Face Privacy could not be loaded: {error}. Update ComfyUI to {NEEDED_HOST} or newer, then restart it."
    return "\n".join(
        [
            f"Face Privacy could not be loaded: {error}. The packages it needs are not whole in the Python that runs ComfyUI.",
            "Close ComfyUI, type these two lines in a terminal, and start ComfyUI again:",
            f"    {_install_command(pack / 'requirements.txt')}",
            f"    {typed([sys.executable, str(pack / 'install.py')])}",
            "They name that Python, so they hold for every kind of install. Type them in the terminal of ComfyUI Desktop",
            "(bottom panel), in a command prompt for the portable version, in any terminal for a virtual environment.",
            "ComfyUI-Manager does the same: find Face Privacy among the installed packs and choose 'Try fix'.",
        ]
    )


def _install_command(requirements: Path) -> str:
    if importlib.util.find_spec("pip") is None:
        return typed(["uv", "pip", "install", "--python", sys.executable, "-r", str(requirements)])
    return typed([sys.executable, "-m", "pip", "install", "-r", str(requirements)])
