"""Blocks of data that are no text: keyed payloads, and what lies behind an image."""

from __future__ import annotations

from ..keyed.container import unpack
from .notes import Notes


def audit_payload(data: bytes, where: str, notes: Notes) -> None:
    """Note a keyed payload, and say so when it is damaged."""
    notes.add("payload", where, f"{len(data)} bytes")
    with notes.reading("the keyed payload"):
        unpack(data)  # a payload that is not one, or has more in it, may carry anything


def audit_trailing(rest: bytes, notes: Notes) -> None:
    """Note what lies behind an image, unless it is padding."""
    if rest.strip(b"\0\r\n "):
        notes.add("trailing", "end of the file", f"{len(rest)} bytes")
