"""Gathers the findings of one file, and lets its parts fail one by one."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from PIL import Image

from ..errors import FormatError
from .findings import Finding
from .secrets import Secrets

UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, zlib.error, FormatError, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow, json and the container raise for damaged or hostile files. Running out of memory is not among them."""


class Notes:
    """Gathers findings of one file. Every text of the file that gets into one goes through `label`."""

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self.found: dict[Finding, None] = {}
        self.problems: list[str] = []
        self.named: dict[str, list[str]] = {}

    def add(self, kind: str, where: str, detail: str = "") -> None:
        self.found[Finding(kind, where, detail)] = None

    def add_names(self, names: Iterable[str], where: str) -> None:
        """Note keys whose values occur at a place, unless a part of that place has been noted."""
        for name in names:
            places = self.named.setdefault(name, [])
            if not any(place.startswith(where) for place in places):
                places.append(where)
                self.add("known-key", where, name)

    def label(self, text: object) -> str:
        shown = str(text)
        if self.secrets.names_in_text(shown) or re.search(r"[0-9a-fA-F]{16}", shown):
            return "(hidden)"
        return "".join(c if c.isalnum() or c in " _-.:" else "?" for c in shown[:60])

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Let one part fail without hiding the others. No text of the error is kept: it may quote the file."""
        try:
            yield
        except UNREADABLE:
            self.problems.append(what)
