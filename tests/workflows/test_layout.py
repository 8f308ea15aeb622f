"""Every template explains itself: a heading, numbered steps in coloured groups, nothing on top of anything else."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from devtools.paths import WORKFLOWS

FILES = sorted(WORKFLOWS.glob("*.json"))
TITLE_BAR = 30.0
SLOT, WIDGET = 20.0, 24.0
"""Heights of a row of sockets and of a widget, in the frontend."""
MARGIN = 4.0
Box = tuple[float, float, float, float]

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def _nodes(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["nodes"]


def _box(node: dict[str, Any]) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_BAR, x + width, y + height


def _meets(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _groups(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["groups"]


def _edges(group: dict[str, Any]) -> Box:
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


@each_file
def test_steps_are_numbered_coloured_and_apart(path: Path) -> None:
    groups = _groups(path)
    assert [group["title"].split()[0] for group in groups] == [str(number) for number in range(1, len(groups) + 1)]
    assert len({group["color"] for group in groups}) == len(groups)
    assert not any(_meets(_edges(a), _edges(b)) for a, b in itertools.combinations(groups, 2))


@each_file
def test_every_node_but_the_note_lies_in_one_step_and_none_on_another(path: Path) -> None:
    for node in _nodes(path):
        left, top, right, bottom = _box(node)
        holding = [
            group["title"]
            for group in _groups(path)
            if (edges := _edges(group))[0] <= left and edges[1] <= top and right <= edges[2] and bottom <= edges[3]
        ]
        assert len(holding) == (node["type"] != "MarkdownNote"), (node["type"], holding)
    crossing = [(a["id"], b["id"]) for a, b in itertools.combinations(_nodes(path), 2) if _meets(_box(a), _box(b))]
    assert crossing == []


@each_file
def test_the_note_has_a_heading_and_its_links_lead_somewhere(path: Path) -> None:
    (note,) = [node for node in _nodes(path) if node["type"] == "MarkdownNote"]
    text = note["widgets_values"][0]
    assert re.match(r"# \w.*\n\n", text)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", target), target
    named = set(re.findall(r"(?<!\*)\*((?:Block by Block|Checkpoint) - [^*]+|[A-Z][a-z]+ Faces(?: - [^*]+)?)\*(?!\*)", text))
    assert named <= {other.stem for other in FILES}


@each_file
def test_a_template_saves_no_metadata(path: Path) -> None:
    assert "SaveImage" not in {node["type"] for node in _nodes(path)}


@each_file
def test_every_template_has_a_thumbnail(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert min(thumbnail.size) >= 256
        low, high = thumbnail.convert("L").getextrema()
    assert high - low > 100


@pytest.mark.parametrize("name", ["Anonymize Faces", "Cloak Faces", "Change Looks"])
def test_a_template_of_one_node_has_at_most_eight_with_all_around_it(name: str) -> None:
    assert len(_nodes(WORKFLOWS / f"{name}.json")) <= 8


@each_file
def test_a_graph_of_blocks_stays_small(path: Path) -> None:
    assert len([node for node in _nodes(path) if node["type"] != "MarkdownNote"]) <= 16


def _socket(node: dict[str, Any], side: str, slot: int) -> tuple[float, float]:
    """Return where a link meets a node: at a row of sockets, or at the widget that it feeds."""
    (x, y), (width, _) = node["pos"], node["size"]
    if side == "outputs":
        return x + width, y + (slot + 0.7) * SLOT
    inputs = node["inputs"]
    widgets = [number for number, entry in enumerate(inputs) if entry.get("widget")]
    sockets = [number for number in range(len(inputs)) if number not in widgets]
    if slot in sockets:
        return x, y + (sockets.index(slot) + 0.7) * SLOT
    rows = max(len(sockets), len(node.get("outputs") or []))
    return x, y + rows * SLOT + 6 + (widgets.index(slot) + 0.4) * WIDGET


def _curve(start: tuple[float, float], end: tuple[float, float], points: int = 60) -> list[tuple[float, float]]:
    """Return points of the curve that the frontend draws: it leaves to the right and comes from the left."""
    reach = 0.25 * math.dist(start, end)
    first, second = (start[0] + reach, start[1]), (end[0] - reach, end[1])
    found = []
    for number in range(points + 1):
        t = number / points
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        found.append(
            tuple(sum(w * p[axis] for w, p in zip(weights, (start, first, second, end), strict=True)) for axis in (0, 1))
        )
    return found


def _crossings(workflow: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return links that pass over a node which is neither of their ends, as types of origin, target and that node."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    found = []
    for _, origin, origin_slot, target, target_slot, _ in workflow["links"]:
        points = _curve(_socket(nodes[origin], "outputs", origin_slot), _socket(nodes[target], "inputs", target_slot))
        for number, node in nodes.items():
            left, top, right, bottom = _box(node)
            over = any(left + MARGIN < x < right - MARGIN and top + MARGIN < y < bottom - MARGIN for x, y in points)
            if over and number not in (origin, target):
                found.append((nodes[origin]["type"], nodes[target]["type"], node["type"]))
    return found


@each_file
def test_no_link_passes_over_another_node(path: Path) -> None:
    assert _crossings(json.loads(path.read_text(encoding="utf-8"))) == []


def test_a_link_over_a_node_is_seen() -> None:
    workflow = json.loads((WORKFLOWS / "Encrypt Faces.json").read_text(encoding="utf-8"))
    moved = next(node for node in workflow["nodes"] if node["type"] == "FacePrivacy_LoadBuiltinFaceModel")
    moved["pos"][1] -= 150
    assert {crossing[2] for crossing in _crossings(workflow)} == {"FacePrivacy_LoadBuiltinFaceModel"}
