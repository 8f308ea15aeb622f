"""The first five minutes of somebody with Nodes 2.0: choose, run, change one thing, read the help, look into the blocks."""

from __future__ import annotations

import os
from typing import Any

import pytest

from devtools.blueprints import ANONYMIZE as BLUEPRINT
from devtools.blueprints import CLOAK, HIDE, OUTSIDE, Blueprint
from devtools.client import ComfyClient
from devtools.paths import ROOT, WORKFLOWS
from devtools.workflow import load_workflow, to_prompt
from tests.support import frontend, graphs

SAVE, ANONYMIZE = "FacePrivacy_SaveCleanImage", "FacePrivacy_AnonymizeFaces"
FRESH = {ANONYMIZE, SAVE, "PreviewImage"}


def _node(page: Any, kind: str) -> Any:
    """Return the box of the only node of a type or title."""
    found = page.evaluate("(k) => window.app.graph.nodes.filter((n) => n.type === k || n.title === k).map((n) => n.id)", kind)
    (number,) = found
    return page.locator(f'[data-node-id="{number}"]')


def _picture(page: Any, kind: str) -> str:
    """Return the address of the picture that a node shows; it must show one."""
    picture = _node(page, kind).get_by_test_id("main-image")
    assert picture.evaluate("(image) => image.complete && image.naturalWidth") == 1024
    return str(picture.get_attribute("src"))


@pytest.mark.weights
def test_a_photo_is_blurred_saved_again_under_another_name_and_the_help_is_there(page: Any, client: ComfyClient) -> None:
    frontend.open_from_list(page, "Anonymize Faces")
    _node(page, ANONYMIZE).get_by_role("combobox", name="method").click()
    page.get_by_role("option", name="blur", exact=True).click()
    run = frontend.press_run(page, client)
    assert frontend.computed(run) - {"LoadImage"} == FRESH  # another template may have loaded the photo before
    graphs.check_pictures(client, run["outputs"])
    assert "filename=anonymized_" in _picture(page, SAVE)

    _node(page, SAVE).get_by_role("textbox", name="filename_prefix").fill("by_hand")
    assert frontend.computed(frontend.press_run(page, client)) == {SAVE}
    assert "filename=by_hand_" in _picture(page, SAVE)
    frontend.screenshot(page, "nodes_2_done")

    _node(page, ANONYMIZE).get_by_test_id("node-title").click()
    page.get_by_test_id("info-button").click()
    shown = page.locator(".node-help-content .markdown-content")
    shown.wait_for()
    first = (ROOT / "web" / "docs" / f"{ANONYMIZE}.md").read_text(encoding="utf-8").splitlines()[0]
    assert shown.inner_text().startswith(first.removeprefix("# "))
    frontend.screenshot(page, "nodes_2_help")


@pytest.mark.parametrize("name", ["Block by Block - Anonymize Faces", "Block by Block - Hide Identity"])
def test_block_graphs_open_whole(page: Any, name: str) -> None:
    nodes = frontend.open_file(page, WORKFLOWS / f"{name}.json")["nodes"]
    frontend.screenshot(page, f"nodes_2_{name}")
    state = page.evaluate(frontend.STATE)
    assert (state["missing"], state["flagged"], state["nodes"]) == ([], [], len(nodes))
    assert page.locator("[data-node-id]").count() == len(nodes)


def test_the_subgraph_is_found_by_its_name_opens_into_its_blocks_and_is_the_template(
    page: Any, client: ComfyClient, object_info: dict[str, Any]
) -> None:
    frontend.open_empty(page)
    frontend.add_by_search(page, "save clean image", 1150, 550)
    frontend.add_by_search(page, BLUEPRINT.name, 650, 300)
    frontend.add_by_search(page, "load image", 150, 300)
    ids = {title: number for number, title in page.evaluate("() => window.app.graph.nodes.map((n) => [n.id, n.title])")}
    save = next(number for title, number in ids.items() if title.startswith("Save Clean Image"))
    frontend.connect(page, ids["Load Image"], "IMAGE", ids[BLUEPRINT.name], "image")
    frontend.connect(page, ids[BLUEPRINT.name], "image", save, "image")
    _node(page, BLUEPRINT.name).get_by_test_id("subgraph-enter-button").click()
    page.wait_for_function("() => window.app.canvas.subgraph")
    page.wait_for_timeout(frontend.STEP_MS)
    frontend.screenshot(page, "nodes_2_blocks")
    blocks = page.evaluate("() => window.app.canvas.graph.nodes.map((n) => n.type)")
    page.get_by_test_id("subgraph-breadcrumb-back").click()
    prompt, template = page.evaluate(frontend.PROMPT), to_prompt(load_workflow(BLUEPRINT.source), object_info)
    assert sorted(blocks) == sorted(
        node["class_type"] for node in template.values() if node["class_type"] not in ("LoadImage", SAVE)
    )
    assert _without_files(prompt) == _without_files(template)
    if os.environ.get("FACEPRIVACY_TEMPLATES"):
        graphs.check_pictures(client, frontend.press_run(page, client)["outputs"])
        frontend.screenshot(page, "nodes_2_blocks_done")


@pytest.mark.parametrize("blueprint", [CLOAK, HIDE], ids=lambda blueprint: blueprint.name)
def test_the_other_subgraphs_are_found_by_their_names_and_open_into_their_blocks(page: Any, blueprint: Blueprint) -> None:
    frontend.open_empty(page)
    frontend.add_by_search(page, blueprint.name, 650, 300)
    _node(page, blueprint.name).get_by_test_id("subgraph-enter-button").click()
    page.wait_for_function("() => window.app.canvas.subgraph")
    page.wait_for_timeout(frontend.STEP_MS)
    frontend.screenshot(page, f"nodes_2_{blueprint.name}")
    known, blocks = page.evaluate(
        "() => [Object.keys(window.LiteGraph.registered_node_types), window.app.canvas.graph.nodes.map((n) => n.type)]"
    )
    inside = [node["type"] for node in load_workflow(blueprint.source)["nodes"] if node["type"] not in OUTSIDE]
    assert sorted(blocks) == sorted(inside)
    assert set(blocks) <= set(known)


def _without_files(prompt: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of every node by its type, links as types, without the names of files."""
    named = {f"{node['class_type']} {number}": node for number, node in enumerate(_in_order(prompt))}
    kinds = {id(node): kind for kind, node in named.items()}

    def value(given: Any) -> Any:
        is_link = isinstance(given, list) and given[0] in prompt
        return [kinds[id(prompt[given[0]])], given[1]] if is_link else given

    return {
        kind: {name: value(given) for name, given in node["inputs"].items() if name not in ("image", "filename_prefix") or
               isinstance(given, list)}
        for kind, node in named.items()
    }  # fmt: skip


def _in_order(prompt: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(prompt.values(), key=lambda node: (node["class_type"], str(node["inputs"].get("recognizers"))))
