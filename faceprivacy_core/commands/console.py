"""How the commands speak."""

from __future__ import annotations

import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Write one line, at once, to standard output or another stream."""
    stream = sys.stdout if stream is None else stream
    stream.write(text + "\n")
    stream.flush()
