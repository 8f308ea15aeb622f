"""The package `av`, which the host has and the core does not need otherwise."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from ..errors import InputError
from ..terminal import typed


def load_av() -> ModuleType:
    """Import PyAV.

    Raises:
        InputError: It is not installed; says what to run.
    """
    try:
        av = importlib.import_module("av")
    except ImportError:
        command = typed([sys.executable, "-m", "pip", "install", "av"])
        raise InputError(
            f"Expected the package av, which reads and writes clips, it is not installed. Run: {command}"
        ) from None
    av.logging.set_level(None)  # its warnings about damaged files are ours to put into words
    return av
