"""The one-node graphs as subgraphs that open into their blocks, each made from the template that has those blocks."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.paths import BLUEPRINTS, WORKFLOWS
from devtools.workflow import load_workflow

Place = tuple[str, int]
"""Type of a node, and the number of one of its outputs."""
PHOTO, FILE, NOTE = "LoadImage", "FacePrivacy_SaveCleanImage", "MarkdownNote"
OUTSIDE = (PHOTO, FILE, "PreviewImage", "FacePrivacy_PrivacyKey", "FacePrivacy_SaveInversion", NOTE)
"""Types of a template's nodes that stay outside the subgraph: what opens, shows or saves, and the key to save with."""
FACES: dict[str, Place] = {"mask": ("FacePrivacy_FaceMask", 1), "faces": ("FacePrivacy_FaceMask", 2)}
REPORT: dict[str, Place] = {"report": ("FacePrivacy_PrivacyReport", 0), "report_image": ("FacePrivacy_PrivacyReport", 1)}
CHOICE = tuple(("FacePrivacy_FaceMask", widget) for widget in ("which", "numbers", "region", "on_no_face"))
INPUT_NODE, OUTPUT_NODE = -10, -20
SLOT_HEIGHT = 20


@dataclass(frozen=True)
class Blueprint:
    """What a subgraph is made of.

    Attributes:
        name: Title, and name of the file; also of the template that has the blocks.
        one_node: Node that does the same in one.
        outputs: Where each output comes from; those of the one node first, in its order.
        shown: Widgets that the closed subgraph shows, each as type of the node and name.
        description: What the node library says of it.
    """

    name: str
    one_node: str
    outputs: Mapping[str, Place]
    shown: tuple[tuple[str, str], ...]
    description: str

    @property
    def path(self) -> Path:
        """The file that the host offers."""
        return BLUEPRINTS / f"{self.name}.json"

    @property
    def source(self) -> Path:
        """The file of the template."""
        return WORKFLOWS / f"{self.name}.json"


ANONYMIZE = Blueprint(
    name="Block by Block - Anonymize Faces", one_node="FacePrivacy_AnonymizeFaces",
    outputs={"image": ("FacePrivacy_FacePaste", 0), **FACES, **REPORT},
    shown=(*CHOICE, ("FacePrivacy_DonorFace", "seed"), ("KSampler", "denoise")),
    description="Gives every face a new one, block by block: open it to change a block. Anonymize Faces does the same in one "
    "node.",
)  # fmt: skip
CLOAK = Blueprint(
    name="Block by Block - Cloak Faces", one_node="FacePrivacy_CloakFaces",
    outputs={"image": ("FacePrivacy_AdversarialLatent", 0), **FACES, **REPORT, "plot": ("FacePrivacy_AdversarialLatent", 5)},
    shown=(*(one for one in CHOICE if one[1] != "region"),
           *(("FacePrivacy_AdversarialLatent", widget) for widget in ("iterations", "fidelity", "seed"))),
    description="Changes every face a little, so that people still know it and face recognisers do not, block by block: open "
    "it to change a block. Cloak Faces does the same in one node.",
)  # fmt: skip
HIDE = Blueprint(
    name="Block by Block - Hide Identity", one_node="FacePrivacy_ChangeLooks",
    outputs={"image": ("FacePrivacy_AdversarialLatent", 0), **FACES, **REPORT, "inversion": ("FacePrivacy_MsiInversion", 0)},
    shown=(*CHOICE, ("FacePrivacy_DonorFace", "seed"), ("KSampler", "denoise"),
           ("FacePrivacy_AdversarialLatent", "iterations")),
    description="Gives every face other looks, while face recognisers still know the person, block by block: open it to change "
    "a block. Change Looks does the same in one node. For a way back connect inversion to Save Inversion.",
)  # fmt: skip
ALL = (ANONYMIZE, CLOAK, HIDE)


def make_blueprint(blueprint: Blueprint) -> dict[str, Any]:
    """Return a blueprint as the frontend keeps it; the same each time."""
    name = blueprint.name
    template = load_workflow(blueprint.source)
    inner = [copy.deepcopy(node) for node in template["nodes"] if node["type"] not in OUTSIDE]
    known = {node["id"]: node for node in inner}
    by_type = {node["type"]: node for node in inner}
    photo = next(node["id"] for node in template["nodes"] if node["type"] == PHOTO)
    links = [_link(raw) for raw in template["links"] if raw[3] in known]
    entering = [link for link in links if link["origin_id"] == photo]
    for link in entering:
        link |= {"origin_id": INPUT_NODE, "origin_slot": 0}
    number = max(link["id"] for link in links)
    leaving: dict[str, dict[str, Any]] = {}
    for slot, (end, (kind, output)) in enumerate(blueprint.outputs.items()):
        number += 1
        leaving[end] = {
            "id": number, "origin_id": by_type[kind]["id"], "origin_slot": output, "target_id": OUTPUT_NODE,
            "target_slot": slot, "type": by_type[kind]["outputs"][output]["type"],
        }  # fmt: skip
    links += leaving.values()
    for node in inner:
        for slot, output in enumerate(node.get("outputs") or []):
            output["links"] = [
                one["id"] for one in links if (one["origin_id"], one["origin_slot"]) == (node["id"], slot)
            ] or None
    left, right = min(node["pos"][0] for node in inner) - 200, max(node["pos"][0] + node["size"][0] for node in inner) + 80
    ends = {"image": ("IMAGE", [link["id"] for link in entering])}
    subgraph = {
        "id": _id(name, "subgraph"), "version": 1,
        "state": {"lastGroupId": len(template["groups"]), "lastNodeId": max(known), "lastLinkId": number, "lastRerouteId": 0},
        "revision": 0, "config": {}, "name": name,
        "inputNode": {"id": INPUT_NODE, "bounding": [left, 0, 120, 60]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [right, 0, 120, 40 + SLOT_HEIGHT * len(leaving)]},
        "inputs": [_end(name, "in", end, kind, ids, [left + 100, 20]) for end, (kind, ids) in ends.items()],
        "outputs": [
            _end(name, "out", end, link["type"], [link["id"]], [right + 20, 20 + SLOT_HEIGHT * slot])
            for slot, (end, link) in enumerate(leaving.items())
        ],
        "widgets": [], "nodes": inner, "groups": [], "links": links, "extra": {}, "category": "face privacy",
        "description": blueprint.description,
    }  # fmt: skip
    closed = {
        "id": 1, "type": subgraph["id"], "pos": [0, 0], "size": [360, 320], "flags": {}, "order": 0, "mode": 0,
        "inputs": [{"name": "image", "type": "IMAGE", "link": None}],
        "outputs": [{"name": end, "type": link["type"], "links": None} for end, link in leaving.items()],
        "properties": {"proxyWidgets": [[str(by_type[kind]["id"]), widget] for kind, widget in blueprint.shown]},
        "widgets_values": [], "title": name,
    }  # fmt: skip
    return {
        "id": _id(name, "file"), "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [closed], "links": [],
        "groups": [], "definitions": {"subgraphs": [subgraph]}, "config": {}, "extra": {}, "version": 0.4,
    }  # fmt: skip


def blueprint_text(blueprint: Blueprint) -> str:
    """Return the text of the file."""
    return json.dumps(make_blueprint(blueprint), indent=1) + "\n"


def opened(made: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the graph that a made blueprint stands for, among those nodes of its template that stayed outside."""
    (subgraph,) = made["definitions"]["subgraphs"]
    outside = {node["id"]: node for node in template["nodes"] if node["type"] in OUTSIDE and node["type"] != NOTE}
    photo = next(number for number, node in outside.items() if node["type"] == PHOTO)
    links = [
        [
            link["id"], photo if link["origin_id"] == INPUT_NODE else link["origin_id"], link["origin_slot"],
            link["target_id"], link["target_slot"], link["type"],
        ]
        for link in subgraph["links"] if link["target_id"] != OUTPUT_NODE
    ]  # fmt: skip
    leaving = {
        link["target_slot"]: (link["origin_id"], link["origin_slot"])
        for link in subgraph["links"]
        if link["target_id"] == OUTPUT_NODE
    }
    for raw in template["links"]:
        if raw[3] in outside:  # what is saved comes from the first output, the rest from any
            place = leaving.get(0) if outside[raw[3]]["type"] == FILE else (raw[1], raw[2])
            if raw[1] in outside or place in leaving.values():
                links.append([raw[0], *place, *raw[3:]])
    return {"nodes": [*outside.values(), *subgraph["nodes"]], "links": links}


def _link(raw: list[Any]) -> dict[str, Any]:
    return dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), raw, strict=True))


def _end(blueprint: str, side: str, name: str, kind: str, ids: list[int], place: list[float]) -> dict[str, Any]:
    return {
        "id": _id(blueprint, f"{side}.{name}"), "name": name, "type": kind, "linkIds": ids, "localized_name": name, "pos": place
    }  # fmt: skip


def _id(blueprint: str, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"face-privacy-diffusion/{blueprint}/{what}"))
