"""How the commands speak."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Write one line, at once, to standard output or another stream; what it cannot show becomes an escape."""
    stream = sys.stdout if stream is None else stream
    stream.write(showable(text, stream) + "\n")
    stream.flush()


def has_bars() -> bool:
    """Tell whether bars can be drawn: in a terminal, and not in a process that another one tells what to do."""
    return sys.stderr.isatty() and not os.environ.get("TQDM_DISABLE")


def showable(text: str, stream: TextIO) -> str:
    """Return a text with escapes for what a stream cannot show, such as file names of another coding."""
    coding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(coding, "backslashreplace").decode(coding)
