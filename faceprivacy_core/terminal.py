"""Command lines as a person types them."""

from __future__ import annotations

import os
import shlex
import subprocess  # only its rules for quoting on Windows
from collections.abc import Sequence


def typed(command: Sequence[str]) -> str:
    """Return a command line with the quotes that this system's terminal needs, if any."""
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
