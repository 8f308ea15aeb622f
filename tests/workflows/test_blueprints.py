"""The subgraph opens into the blocks of the template `anonymize`, and the host offers it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from devtools.blueprints import INPUT_NODE, NAME, OUTPUT_NODE, PATH, SOURCE, blueprint_text, opened
from devtools.server import ComfyServer
from devtools.workflow import load_workflow, to_prompt, type_problems


def _blueprint() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8"))


def test_file_is_made_from_the_template() -> None:
    assert PATH.read_text(encoding="utf-8") == blueprint_text(), "Run: python3 dev.py api"
    assert [path.name for path in PATH.parent.iterdir()] == [PATH.name]


def test_opened_it_is_the_template(object_info: dict[str, Any]) -> None:
    graph = opened(_blueprint())
    assert type_problems(graph, object_info) == []
    assert to_prompt(graph, object_info) == to_prompt(load_workflow(SOURCE), object_info)


def test_closed_it_has_the_ends_of_anonymize_faces(object_info: dict[str, Any]) -> None:
    (subgraph,) = _blueprint()["definitions"]["subgraphs"]
    (closed,) = _blueprint()["nodes"]
    node = object_info["FacePrivacy_AnonymizeFaces"]
    ends = [(end["name"], end["type"]) for end in subgraph["outputs"]]
    assert ends == list(zip(node["output_name"], node["output"], strict=True))
    assert [(end["name"], end["type"]) for end in closed["outputs"]] == ends
    assert [(end["name"], end["type"]) for end in subgraph["inputs"]] == [("image", "IMAGE")]
    assert closed["type"] == subgraph["id"]


def test_links_and_widgets_of_the_subgraph_exist() -> None:
    (subgraph,) = _blueprint()["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    ends = {end["name"]: end["linkIds"] for end in (*subgraph["inputs"], *subgraph["outputs"])}
    links = {link["id"]: link for link in subgraph["links"]}
    assert len(links) == len(subgraph["links"])
    assert all(number in links for numbers in ends.values() for number in numbers)
    for link in links.values():
        if link["target_id"] != OUTPUT_NODE:
            assert nodes[link["target_id"]]["inputs"][link["target_slot"]]["link"] == link["id"]
        if link["origin_id"] != INPUT_NODE:
            assert link["id"] in nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["links"]
    for node_id, widget in _blueprint()["nodes"][0]["properties"]["proxyWidgets"]:
        assert widget in {slot["widget"]["name"] for slot in nodes[int(node_id)]["inputs"] if slot.get("widget")}


def test_host_offers_it(server: ComfyServer) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{server.url}/{path}", timeout=30) as reply:
            return json.load(reply)

    (number,) = [key for key, entry in get("global_subgraphs").items() if entry["name"] == NAME]
    assert json.loads(get(f"global_subgraphs/{number}")["data"]) == _blueprint()
