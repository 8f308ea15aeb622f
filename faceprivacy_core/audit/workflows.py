"""Nodes of both forms of workflow: the frontend's, with lists of widgets, and that of the API, with names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .names import is_secret_name
from .notes import Notes
from .secrets import HEX_KEY

KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
WORKFLOW_FILE = "workflow file"
"""The place of a workflow that is no part of a picture: it says which picture to take, not which one was protected."""
KEY_NODE = "FacePrivacy_PrivacyKey"
MEDIA = re.compile(r"\.(?:png|jpe?g|webp|gif|bmp|tiff?|heic|avif|jxl|mp4|mov|mkv|webm|avi)(?: \[\w+\])?$", re.IGNORECASE)
PASS_WORD = re.compile(r"password|passphrase|secret", re.IGNORECASE)
TEXT_NODE = re.compile(r"primitive|string|text", re.IGNORECASE)
SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}


class Node(NamedTuple):
    """One node, as both forms of workflow tell it."""

    number: str
    kind: str
    widgets: list[tuple[str, Any]]
    """Names and values; the name is empty where the file does not tell it."""
    feeds_secret: set[str]
    """Nodes (API form) or links (frontend form) that feed an input named like a secret."""


def read_node(key: object, item: dict[str, Any]) -> Node | None:
    """Return the node that a dictionary of either form is, None where it is none."""
    inputs, values = item.get("inputs"), item.get("widgets_values")
    if isinstance(item.get("class_type"), str) and isinstance(inputs, dict):
        sources = {str(value[0]) for name, value in inputs.items() if _is_link(value) and is_secret_name(name)}
        return Node(str(key), item["class_type"], list(inputs.items()), sources)
    if not isinstance(item.get("type"), str) or not isinstance(values, (list, dict)):
        return None
    slots = [slot for slot in inputs or [] if isinstance(slot, dict)]
    sources = {f"link {slot.get('link')}" for slot in slots if is_secret_name(str(slot.get("name", "")))}
    if isinstance(values, dict):
        widgets = list(values.items())
    else:
        names = [str(slot["widget"].get("name", "")) for slot in slots if isinstance(slot.get("widget"), dict)]
        values = [value for value in values if not (isinstance(value, str) and value in SEED_CONTROLS)]
        if len(names) != len(values):  # which value belongs to which name is not known: suspect all of them
            names = [next((name for name in names if is_secret_name(name)), "")] * len(values)
        widgets = list(zip(names, values, strict=True))
    return Node(str(item.get("id", "")), item["type"], widgets, sources)


def link_origins(links: list[Any]) -> dict[str, str]:
    """Return the node each link of the frontend's form comes from; inside subgraphs links are dictionaries."""
    lists = {f"link {link[0]}": str(link[1]) for link in links if isinstance(link, list) and len(link) > 1}
    return lists | {f"link {link.get('id')}": str(link.get("origin_id")) for link in links if isinstance(link, dict)}


def audit_nodes(nodes: list[Node], origins: dict[str, str], where: str, notes: Notes) -> None:
    """Judge the widgets of all nodes; a text node that feeds an input named like a secret holds a secret.

    Args:
        nodes: All nodes of a document.
        origins: The node each link comes from, as `link_origins` returns it.
        where: The place of the document.
        notes: Gathers the findings.
    """
    feeding = {origins.get(source, source) for node in nodes for source in node.feeds_secret}
    for node in nodes:
        _audit_node(node, node.number in feeding and TEXT_NODE.search(node.kind) is not None, where, notes)


def _audit_node(node: Node, is_secret: bool, where: str, notes: Notes) -> None:
    where = f"{where}, node {notes.label(node.number)} {notes.label(node.kind)}"
    for name, value in node.widgets:
        place = f"{where}, {notes.label(name)}" if name else where
        suspect = is_secret or is_secret_name(name) or (not name and PASS_WORD.search(node.kind))
        for text in _strings(value):
            notes.add_names(notes.secrets.names_in_text(text), place)
            if HEX_KEY.search(text):
                notes.add("hex-key", place)
            elif node.kind == KEY_NODE and name in ("name", ""):
                notes.add("key-name" if KEY_NAME.fullmatch(text) else "not-a-name", place)
            elif suspect:
                notes.add("secret-field", place)
            if MEDIA.search(text.rstrip()[-64:]) or (node.kind.startswith("LoadImage") and name == "image"):
                notes.add("input-name" if where.startswith(WORKFLOW_FILE) else "original-name", place)


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts of a widget's value that are not empty; a link to another node has none."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str) and item.strip():
            yield item
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list) and not _is_link(item):
            todo += item
