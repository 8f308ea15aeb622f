"""Texts and JSON documents, wherever a file holds them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from .names import is_secret_name
from .notes import Notes
from .secrets import HEX_KEY, KEY_LINE
from .workflows import Node, audit_nodes, link_origins, read_node

MAX_TEXT_BYTES = 16 * 2**20
"""Longest text parsed as JSON or XMP; compressed PNG text ends at Pillow's own 1 MiB a chunk."""
USER_FOLDER = re.compile(r"(?:/home/|/Users/|/root/|[A-Za-z]:[\\/]+Users[\\/])")
"""Where users have their files: the audit looks for such paths, because they carry names of people."""


def capped(text: Any) -> Any:
    """Return a text or bytes that are short enough to be parsed."""
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError("The text is longer than what is parsed.")
    return text


def decoded(raw: bytes) -> str:
    """Decode text whose coding the file does not tell, or tells as EXIF's UserComment does."""
    body = re.sub(rb"\A(?:UNICODE\0|ASCII\0{3}|JIS\0{5}|\0{8})", b"", raw)
    high, low = body[0::2].count(0), body[1::2].count(0)
    if raw.startswith(b"UNICODE\0") or body.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * max(high, low) > len(body):
        return body.decode("utf-16-be" if high > low or body.startswith(b"\xfe\xff") else "utf-16-le", "replace")
    return body.decode("utf-8", "replace")


def audit_text(text: str, where: str, notes: Notes) -> None:
    """Search one decoded text: for JSON (also behind `workflow:`), a prompt, known values, key files."""
    document = re.match(r"\s*(?:\w{1,20}:\s*)?(?=[{\[])", text)
    if document:
        with suppress(json.JSONDecodeError):
            audit_json(json.loads(capped(text[document.end() :].rstrip("\0 \r\n"))), where, notes)
    if "Sampler: " in text.partition("Steps: ")[2]:  # as Stable Diffusion web UI writes it
        notes.add("prompt", where)
    notes.add_names(notes.secrets.names_in_text(text), where)
    if KEY_LINE.search(text.encode("utf-8", "surrogatepass")):
        notes.add("key-file", where)
    if HEX_KEY.fullmatch(text.strip("\0 \r\n")):
        notes.add("digits", where)


def audit_json(document: Any, where: str, notes: Notes) -> None:
    """Search a document: nodes of both forms of workflow, fields named like secrets, and every string."""
    texts: list[str] = []
    nodes: list[Node] = []
    origins: dict[str, str] = {}
    judged: set[int] = set()
    todo: list[tuple[object, Any]] = [("", document)]
    while todo:
        key, item = todo.pop()
        if isinstance(item, str):
            texts.append(item)
            if item.strip()[:1] + item.strip()[-1:] in ("{}", "[]"):
                audit_text(item, where, notes)
        elif isinstance(item, list):
            todo += [(key, member) for member in item]
            origins |= link_origins(item) if key == "links" else {}
        elif isinstance(item, dict):
            texts += item
            node = read_node(key, item)
            if node:
                nodes.append(node)
                judged |= {id(item.get(part)) for part in ("inputs", "widgets_values")}
            for name, value in item.items() if id(item) not in judged else ():
                if name.lower() not in ("key", "keys") and is_secret_name(name) and isinstance(value, str) and value.strip():
                    notes.add("secret-field", f"{where}, field {notes.label(name)}")
            todo += item.items()
    if nodes or (isinstance(document, dict) and isinstance(document.get("nodes"), list)):
        notes.add("workflow", where)
    audit_nodes(nodes, origins, where, notes)
    joined = "\n".join(texts)
    short = {name for text in texts if len(text) < notes.secrets.SHORTEST for name in notes.secrets.names_in_text(text)}
    notes.add_names(short.union(notes.secrets.names_in_text(joined)), where)
    if USER_FOLDER.search(joined):
        notes.add("path", where)


def audit_free_text(text: str, where: str, notes: Notes, kind: str | None = None) -> None:
    """Search a text, and note it under its kind, or as free text when nothing else is known about it."""
    if not text.strip("\0 \r\n"):
        return
    before = len(notes.found)
    audit_text(text, where, notes)
    if kind or len(notes.found) == before:
        notes.add(kind or "text", where)
