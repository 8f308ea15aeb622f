"""The one-node graph of new faces as a subgraph that opens into its blocks, made from the template `anonymize`."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping
from typing import Any

from devtools.paths import BLUEPRINTS, WORKFLOWS
from devtools.workflow import load_workflow

NAME = "Block by Block - Anonymize Faces"
SOURCE = WORKFLOWS / "anonymize.json"
PATH = BLUEPRINTS / f"{NAME}.json"
OUTSIDE = ("LoadImage", "FacePrivacy_SaveCleanImage", "MarkdownNote")
"""Types of the template's nodes that stay outside the subgraph."""
OUTPUTS = {"image": ("FacePrivacy_FacePaste", 0), "mask": ("FacePrivacy_FaceMask", 1), "faces": ("FacePrivacy_FaceMask", 2),
           "report": ("FacePrivacy_PrivacyReport", 0), "report_image": ("FacePrivacy_PrivacyReport", 1)}  # fmt: skip
"""Outputs of the subgraph, those of Anonymize Faces: where each comes from."""
SHOWN = (("FacePrivacy_FaceMask", "which"), ("FacePrivacy_FaceMask", "numbers"), ("FacePrivacy_FaceMask", "region"),
         ("FacePrivacy_FaceMask", "on_no_face"), ("FacePrivacy_DonorFace", "seed"), ("KSampler", "denoise"))  # fmt: skip
"""Widgets that the closed subgraph shows."""
INPUT_NODE, OUTPUT_NODE = -10, -20
SLOT_HEIGHT = 20
DESCRIPTION = (
    "Gives every face a new one, block by block: open it to change a block. Anonymize Faces does the same in one node."
)


def make_blueprint() -> dict[str, Any]:
    """Return the blueprint as the frontend keeps it; the same each time."""
    template = load_workflow(SOURCE)
    inner = [copy.deepcopy(node) for node in template["nodes"] if node["type"] not in OUTSIDE]
    known = {node["id"]: node for node in inner}
    by_type = {node["type"]: node for node in inner}
    photo = next(node["id"] for node in template["nodes"] if node["type"] == "LoadImage")
    links = [_link(raw) for raw in template["links"] if raw[3] in known]
    entering = [link for link in links if link["origin_id"] == photo]
    for link in entering:
        link |= {"origin_id": INPUT_NODE, "origin_slot": 0}
    number = max(link["id"] for link in links)
    leaving: dict[str, dict[str, Any]] = {}
    for slot, (name, (kind, output)) in enumerate(OUTPUTS.items()):
        number += 1
        leaving[name] = {
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
        "id": _id("subgraph"), "version": 1,
        "state": {"lastGroupId": len(template["groups"]), "lastNodeId": max(known), "lastLinkId": number, "lastRerouteId": 0},
        "revision": 0, "config": {}, "name": NAME,
        "inputNode": {"id": INPUT_NODE, "bounding": [left, 0, 120, 60]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [right, 0, 120, 40 + SLOT_HEIGHT * len(leaving)]},
        "inputs": [_end("in", name, kind, ids, [left + 100, 20]) for name, (kind, ids) in ends.items()],
        "outputs": [
            _end("out", name, link["type"], [link["id"]], [right + 20, 20 + SLOT_HEIGHT * slot])
            for slot, (name, link) in enumerate(leaving.items())
        ],
        "widgets": [], "nodes": inner, "groups": [], "links": links, "extra": {}, "category": "face privacy",
        "description": DESCRIPTION,
    }  # fmt: skip
    closed = {
        "id": 1, "type": subgraph["id"], "pos": [0, 0], "size": [360, 320], "flags": {}, "order": 0, "mode": 0,
        "inputs": [{"name": "image", "type": "IMAGE", "link": None}],
        "outputs": [{"name": name, "type": link["type"], "links": None} for name, link in leaving.items()],
        "properties": {"proxyWidgets": [[str(by_type[kind]["id"]), widget] for kind, widget in SHOWN]},
        "widgets_values": [], "title": NAME,
    }  # fmt: skip
    return {
        "id": _id("file"), "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [closed], "links": [], "groups": [],
        "definitions": {"subgraphs": [subgraph]}, "config": {}, "extra": {}, "version": 0.4,
    }  # fmt: skip


def blueprint_text() -> str:
    """Return the text of the file."""
    return json.dumps(make_blueprint(), indent=1) + "\n"


def opened(blueprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the graph that a blueprint stands for, with a photo before it and a file behind it, as those of the template."""
    template = load_workflow(SOURCE)
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    photo, saving = (next(node for node in template["nodes"] if node["type"] == kind) for kind in OUTSIDE[:2])
    into_file = next(raw for raw in template["links"] if raw[3] == saving["id"])
    links = [
        [link["id"], link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"], link["type"]]
        for link in subgraph["links"]
        if link["target_id"] != OUTPUT_NODE
    ]
    for raw in links:
        if raw[1] == INPUT_NODE:
            raw[1] = photo["id"]
    source = next(link for link in subgraph["links"] if (link["target_id"], link["target_slot"]) == (OUTPUT_NODE, 0))
    links.append([into_file[0], source["origin_id"], source["origin_slot"], *into_file[3:]])
    return {"nodes": [photo, *subgraph["nodes"], saving], "links": links}


def _link(raw: list[Any]) -> dict[str, Any]:
    return dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), raw, strict=True))


def _end(side: str, name: str, kind: str, ids: list[int], place: list[float]) -> dict[str, Any]:
    return {"id": _id(f"{side}.{name}"), "name": name, "type": kind, "linkIds": ids, "localized_name": name, "pos": place}


def _id(what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"face-privacy-diffusion/{NAME}/{what}"))
