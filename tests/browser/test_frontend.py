"""Every workflow opens in the real frontend, whole, and runs at the press of its button."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from devtools.client import ComfyClient
from devtools.paths import BROWSER_OUTPUT, PACK_NAME, WORKFLOWS
from devtools.server import ComfyServer
from devtools.workflow import load_workflow, to_prompt
from tests.support import graphs
from tests.support.recovery import provide_inversion

FILES = sorted(WORKFLOWS.glob("*.json"))
RUNNABLE = [path for path in FILES if not path.stem.endswith("_sd15")]
MINUTES = ("hide_identity", "cloak", "cloak_faces")
"""Templates that run when asked to; their nodes run in the tests of the host."""
RUN_LIMIT_S = 1200.0
OPEN_ATTEMPTS = 5
RUN_BUTTON = '[data-testid="queue-button"]'

LOAD = """async (workflow) => {
    await window.app.loadGraphData(workflow);
    await new Promise((done) => setTimeout(done, 1500));
    window.app.canvas.ds.fitToBounds?.(window.app.graph.nodes.reduce((box, node) => [
        Math.min(box[0], node.pos[0]), Math.min(box[1], node.pos[1] - 40),
        Math.max(box[2], node.pos[0] + node.size[0]), Math.max(box[3], node.pos[1] + node.size[1]),
    ], [Infinity, Infinity, -Infinity, -Infinity]).map(
        (edge, index, box) => index < 2 ? edge : edge - box[index - 2]), { zoom: 0.75 });
    window.app.canvas.setDirty(true, true);
}"""
STATE = """() => {
    const graph = window.app.graph;
    const known = window.LiteGraph.registered_node_types;
    return {
        missing: graph.nodes.filter((n) => !known[n.type]).map((n) => n.type),
        flagged: graph.nodes.filter((n) => n.has_errors).map((n) => n.type),
        nodes: graph.nodes.length,
        links: graph.links.size ?? Object.keys(graph.links).length,
    };
}"""
SEARCH = """(word) => {
    const stores = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s;
    return stores.get("nodeDef").nodeSearchService.searchNode(word).map((node) => node.name);
}"""
PROMPT = "async () => (await window.app.graphToPrompt()).output"


def _open(page: Any, path: Path) -> dict[str, Any]:
    workflow = load_workflow(path)
    for _ in range(OPEN_ATTEMPTS):  # a slow frontend may put its own first graph over ours
        page.evaluate(LOAD, workflow)
        page.wait_for_timeout(500)
        if page.evaluate(STATE)["nodes"] == len(workflow["nodes"]):
            break
    return workflow


def _screenshot(page: Any, name: str) -> None:
    page.screenshot(path=str(BROWSER_OUTPUT / f"{name}.png"))


def test_templates_of_the_pack_are_offered(server: ComfyServer) -> None:
    with urllib.request.urlopen(f"{server.url}/workflow_templates", timeout=30) as reply:
        offered = json.load(reply)
    assert sorted(offered[PACK_NAME]) == sorted(path.stem for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflow_opens_without_a_missing_node_or_a_lost_link(page: Any, path: Path) -> None:
    workflow = _open(page, path)
    _screenshot(page, path.stem)
    state = page.evaluate(STATE)
    assert state["missing"] == []
    if path in RUNNABLE:  # the others ask for checkpoints that are not here
        needs_a_run = "[output]" in path.read_text(encoding="utf-8")  # a picture that another workflow leaves, if it ran
        assert set(state["flagged"]) <= ({"LoadImage"} if needs_a_run else set())
    assert state["nodes"] == len(workflow["nodes"])
    assert state["links"] == len(workflow["links"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_frontend_and_converter_make_the_same_prompt(page: Any, path: Path, object_info: dict[str, Any]) -> None:
    workflow = _open(page, path)
    theirs = page.evaluate(PROMPT)
    ours = to_prompt(workflow, object_info)
    assert {key: (node["class_type"], node["inputs"]) for key, node in ours.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in theirs.items()
    }


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_run_button_gives_a_result(
    page: Any, path: Path, server: ComfyServer, client: ComfyClient, object_info: dict[str, Any]
) -> None:
    if path.stem in MINUTES and not os.environ.get("FACEPRIVACY_TEMPLATES"):
        pytest.skip("takes minutes: FACEPRIVACY_TEMPLATES=1")
    if "[output]" in path.read_text(encoding="utf-8"):  # opens what another workflow leaves; the others need nothing
        prompt = to_prompt(load_workflow(path), object_info)
        graphs.provide_keyed(client, server.base, prompt, object_info)
        provide_inversion(server.base, prompt)
    _open(page, path)
    before = set(client.history())
    page.click(RUN_BUTTON)
    run = _wait_for_new_run(client, before)
    page.wait_for_timeout(1000)
    _screenshot(page, f"{path.stem}_done")
    assert run["status"]["status_str"] == "success", run["status"]["messages"]
    graphs.check_pictures(client, run["outputs"])


@pytest.mark.parametrize("word", ["anonymize", "blur faces", "pixelate", "mosaic", "censor", "redact", "gdpr", "hide face"])
def test_searching_finds_the_one_node_first(page: Any, word: str) -> None:
    found = page.evaluate(SEARCH, word)
    assert found[0] == "FacePrivacy_AnonymizeFaces", found


def test_a_blur_of_faces_is_among_the_first_that_blur(page: Any) -> None:
    assert "FacePrivacy_AnonymizeFaces" in page.evaluate(SEARCH, "blur")[:8]


def _wait_for_new_run(client: ComfyClient, before: set[str]) -> dict[str, Any]:
    deadline = time.monotonic() + RUN_LIMIT_S
    while time.monotonic() < deadline:
        new = {key: run for key, run in client.history().items() if key not in before}
        if new:
            return next(iter(new.values()))
        time.sleep(1)
    pytest.fail(f"The run had not ended after {RUN_LIMIT_S:.0f} s.")
