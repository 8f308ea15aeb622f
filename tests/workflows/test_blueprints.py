"""Every subgraph opens into the blocks of its template, and the host offers it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from devtools.blueprints import ALL, HIDE, INPUT_NODE, OUTPUT_NODE, Blueprint, blueprint_text, opened
from devtools.paths import BLUEPRINTS
from devtools.server import ComfyServer
from devtools.widgets import WorkflowError
from devtools.workflow import load_workflow, to_prompt, type_problems

each_blueprint = pytest.mark.parametrize("blueprint", ALL, ids=lambda blueprint: blueprint.name)


def _made(blueprint: Blueprint) -> dict[str, Any]:
    return json.loads(blueprint.path.read_text(encoding="utf-8"))


def _subgraph(blueprint: Blueprint) -> dict[str, Any]:
    (subgraph,) = _made(blueprint)["definitions"]["subgraphs"]
    return subgraph


@each_blueprint
def test_file_is_made_from_the_template(blueprint: Blueprint) -> None:
    assert blueprint.path.read_text(encoding="utf-8") == blueprint_text(blueprint), "Run: python3 dev.py api"


def test_no_file_is_left_of_a_blueprint_that_is_gone_and_none_shares_a_number() -> None:
    assert {path.name for path in BLUEPRINTS.iterdir()} == {blueprint.path.name for blueprint in ALL}
    numbers = [number for blueprint in ALL for number in (_made(blueprint)["id"], _subgraph(blueprint)["id"])]
    assert len(set(numbers)) == 2 * len(ALL)


@each_blueprint
def test_opened_it_is_the_template(blueprint: Blueprint, object_info: dict[str, Any]) -> None:
    template = load_workflow(blueprint.source)
    graph = opened(_made(blueprint), template)
    assert type_problems(graph, object_info) == []
    assert to_prompt(graph, object_info) == to_prompt(template, object_info)


@each_blueprint
def test_closed_it_has_the_ends_of_the_one_node(blueprint: Blueprint, object_info: dict[str, Any]) -> None:
    subgraph = _subgraph(blueprint)
    (closed,) = _made(blueprint)["nodes"]
    node = object_info[blueprint.one_node]
    of_the_node = list(zip(node["output_name"], node["output"], strict=True))
    ends = [(end["name"], end["type"]) for end in subgraph["outputs"]]
    assert ends[: len(of_the_node)] == of_the_node
    assert [name for name, _ in ends] == list(blueprint.outputs)
    assert [(end["name"], end["type"]) for end in closed["outputs"]] == ends
    assert [(end["name"], end["type"]) for end in subgraph["inputs"]] == [("image", "IMAGE")]
    assert closed["type"] == subgraph["id"]


@each_blueprint
def test_links_and_widgets_of_the_subgraph_exist(blueprint: Blueprint) -> None:
    subgraph = _subgraph(blueprint)
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
    for node_id, widget in _made(blueprint)["nodes"][0]["properties"]["proxyWidgets"]:
        assert widget in {slot["widget"]["name"] for slot in nodes[int(node_id)]["inputs"] if slot.get("widget")}


@each_blueprint
def test_inside_nothing_is_saved_and_no_key_is_made(blueprint: Blueprint, object_info: dict[str, Any]) -> None:
    kinds = {node["type"] for node in _subgraph(blueprint)["nodes"]}
    assert {kind for kind in kinds if object_info[kind]["output_node"]} == {"FacePrivacy_PrivacyReport"}
    assert "FacePrivacy_PrivacyKey" not in kinds


@pytest.mark.parametrize("end", ["image", "inversion"])
def test_an_output_that_a_subgraph_lacks_is_seen(end: str, object_info: dict[str, Any]) -> None:
    made = _made(HIDE)
    (subgraph,) = made["definitions"]["subgraphs"]
    gone = next(one["linkIds"] for one in subgraph["outputs"] if one["name"] == end)
    subgraph["links"] = [link for link in subgraph["links"] if link["id"] not in gone]
    with pytest.raises(WorkflowError, match="is missing"):
        to_prompt(opened(made, load_workflow(HIDE.source)), object_info)


@each_blueprint
def test_host_offers_it(blueprint: Blueprint, server: ComfyServer) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{server.url}/{path}", timeout=30) as reply:
            return json.load(reply)

    (number,) = [key for key, entry in get("global_subgraphs").items() if entry["name"] == blueprint.name]
    assert json.loads(get(f"global_subgraphs/{number}")["data"]) == _made(blueprint)
