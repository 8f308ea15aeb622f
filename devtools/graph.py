"""Read a graph as the frontend saves it: nodes, links, and where a link really comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devtools.widgets import WorkflowError

MODE_MUTED = 2
MODE_BYPASSED = 4
NOTE_TYPES = frozenset({"Note", "MarkdownNote"})
REROUTE = "Reroute"
PRIMITIVE = "PrimitiveNode"
VIRTUAL_TYPES = NOTE_TYPES | {REROUTE, PRIMITIVE}


@dataclass(frozen=True)
class Link:
    """One wire from an output to an input."""

    id: int
    origin: str
    origin_slot: int
    target: str
    target_slot: int
    kind: str


@dataclass(frozen=True)
class Constant:
    """A value that a primitive node hands to a widget."""

    value: Any


@dataclass(frozen=True)
class Graph:
    """Nodes by id (as text) and links by id."""

    nodes: Mapping[str, Mapping[str, Any]]
    links: Mapping[int, Link]

    def source(self, link_id: int) -> tuple[str, int] | Constant | None:
        """Follow a link back through reroutes and bypassed nodes.

        Returns:
            Node and output slot, a constant, or `None` when the wire ends in nothing.
        """
        seen: set[int] = set()
        current: int | None = link_id
        while current is not None:
            if current in seen or current not in self.links:
                raise WorkflowError(
                    f"Link {current} is missing or runs in a circle. Open the workflow in the frontend and save it again."
                )
            seen.add(current)
            link = self.links[current]
            node = self.nodes.get(link.origin)
            if node is None:
                raise WorkflowError(
                    f"Link {link.id} starts at node {link.origin}, which the workflow does not "
                    "hold. Open the workflow in the frontend and save it again."
                )
            if node["type"] == PRIMITIVE:
                return Constant(_first(node.get("widgets_values")))
            if node.get("mode") == MODE_MUTED:
                return None
            if node["type"] == REROUTE:
                current = _linked(_slots(node, "inputs"), 0)
            elif node.get("mode") == MODE_BYPASSED:
                current = _bypass(node, link)
            else:
                return link.origin, link.origin_slot
        return None


def read_graph(workflow: Mapping[str, Any]) -> Graph:
    """Read a saved graph.

    Raises:
        WorkflowError: it is not in the frontend's format, or it uses subgraphs.
    """
    if not isinstance(workflow.get("nodes"), list) or not isinstance(workflow.get("links"), list):
        raise WorkflowError(
            "The workflow has no `nodes` and `links`. Expected is the format that the frontend "
            "saves (menu Save), not the API export."
        )
    if (workflow.get("definitions") or {}).get("subgraphs"):
        raise WorkflowError(
            "The workflow contains subgraphs, which cannot be queued from here. Unpack them in "
            "the frontend and save the workflow again."
        )
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    links = [_link(raw) for raw in workflow["links"]]
    return Graph(nodes, {link.id: link for link in links})


def title_of(node: Mapping[str, Any]) -> str:
    """Return how to name a node to a person: type, number and own title if it has one."""
    title = node.get("title")
    named = f", titled {title!r}" if title and title != node["type"] else ""
    return f"Node {node['id']} ({node['type']}{named})"


def _link(raw: Sequence[Any] | Mapping[str, Any]) -> Link:
    if isinstance(raw, Mapping):
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        raw = [raw.get(key) for key in keys]
    return Link(int(raw[0]), str(raw[1]), int(raw[2]), str(raw[3]), int(raw[4]), str(raw[5]))


def _slots(node: Mapping[str, Any], side: str) -> list[Mapping[str, Any]]:
    return list(node.get(side) or [])


def _linked(slots: Sequence[Mapping[str, Any]], index: int) -> int | None:
    return slots[index].get("link") if index < len(slots) else None


def _bypass(node: Mapping[str, Any], link: Link) -> int | None:
    """Return the link that a bypassed node passes on: the opposite slot first, then any other."""
    inputs = _slots(node, "inputs")
    kind = _slots(node, "outputs")[link.origin_slot]["type"]
    order = [link.origin_slot] + [i for i in range(len(inputs)) if i != link.origin_slot]
    for index in order:
        if index < len(inputs) and inputs[index]["type"] == kind:
            return _linked(inputs, index)
    return None


def _first(values: Any) -> Any:
    if not values:
        raise WorkflowError("A primitive node has no saved value. Connect it and save again.")
    return values[0]
