"""What a person does in the frontend: look into lists, search, click and drag; things are found by the frontend's own marks."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from devtools.client import ComfyClient
from devtools.paths import BROWSER_OUTPUT, PACK_NAME
from devtools.workflow import load_workflow

RUN_LIMIT_S = 1200.0
ACTIVE = "() => window.app.extensionManager.workflow.activeWorkflow?.path ?? ''"
OPENED = f"(before) => ({ACTIVE})() !== before && window.app.graph.nodes.length > 0"
LOAD = "([workflow, name]) => window.app.loadGraphData(workflow, true, true, name, { openSource: 'template' })"
FIT = "() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')"
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
PROMPT = "async () => (await window.app.graphToPrompt()).output"
STEP_MS = 500
CLICKS, SEARCH_MS = 4, 10_000


def open_from_list(page: Any, name: str) -> None:
    """Open a template from the list of templates, by its picture. Drawing the list takes seconds; see `open_file`."""
    before = page.evaluate(ACTIVE)
    page.click(".templates-tab-button")
    page.get_by_test_id("template-workflows-content").get_by_role("heading").first.wait_for()
    page.get_by_role("button", name=PACK_NAME).click()
    page.get_by_test_id(f"template-workflow-{name}").click()
    page.wait_for_function(OPENED, arg=before)
    page.wait_for_timeout(STEP_MS)


def open_file(page: Any, path: Path) -> dict[str, Any]:
    """Open a template as the list does when its picture is clicked, and return it."""
    workflow = load_workflow(path)
    before = page.evaluate(ACTIVE)
    page.evaluate(LOAD, [workflow, path.stem])
    page.wait_for_function(OPENED, arg=before)
    page.evaluate(FIT)
    page.wait_for_timeout(STEP_MS)
    return workflow


def open_empty(page: Any) -> None:
    """Open an empty workflow."""
    before = page.evaluate(ACTIVE)
    page.get_by_role("button", name="Create a new blank workflow").click()
    page.wait_for_function(f"(before) => ({ACTIVE})() !== before", arg=before)
    page.wait_for_timeout(STEP_MS)


def add_by_search(page: Any, words: str, x: float, y: float) -> None:
    """Click twice where the canvas is empty, type, and place the first node that is found there."""
    _open_search(page, x, y)
    page.keyboard.type(words)
    page.wait_for_timeout(STEP_MS)
    page.get_by_test_id("result-item").first.click()
    page.wait_for_timeout(STEP_MS)
    page.mouse.click(x, y)
    page.wait_for_timeout(STEP_MS)


def _open_search(page: Any, x: float, y: float) -> None:
    """Click twice until the search is there: a busy page can take two clicks for two single ones."""
    from playwright.sync_api import TimeoutError as TookTooLong

    search = page.get_by_role("search")
    for _ in range(CLICKS):
        page.mouse.dblclick(x, y)
        with contextlib.suppress(TookTooLong):
            search.wait_for(timeout=SEARCH_MS)
            return
    search.wait_for(timeout=SEARCH_MS)


def connect(page: Any, origin: str, output: str, target: str, entry: str) -> None:
    """Drag from an output to an input. Nodes by id; Nodes 2.0 alone."""
    ends = [
        page.locator(f'[data-node-id="{node}"] .lg-slot--{side}').filter(has_text=name).first
        for node, side, name in ((origin, "output", output), (target, "input", entry))
    ]
    (x, y), end = (_middle(one.get_by_test_id("slot-connection-dot")) for one in ends)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(*((a + 3 * b) / 4 for a, b in zip((x, y), end, strict=True)), steps=4)
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def press_run(page: Any, client: ComfyClient) -> dict[str, Any]:
    """Press Run and return what the host's history holds of that run."""
    before = set(client.history())
    page.get_by_test_id("queue-button").click()
    deadline = time.monotonic() + RUN_LIMIT_S
    while time.monotonic() < deadline:
        new = {key: run for key, run in client.history().items() if key not in before}
        if new:
            run = next(iter(new.values()))
            assert run["status"]["status_str"] == "success", run["status"]["messages"]
            page.wait_for_timeout(2 * STEP_MS)
            return run
        time.sleep(0.5)
    pytest.fail(f"The run had not ended after {RUN_LIMIT_S:.0f} s.")


def computed(run: dict[str, Any]) -> set[str]:
    """Return the types of the nodes that a run computed, without those whose result was still there."""
    kept = {node for kind, data in run["status"]["messages"] if kind == "execution_cached" for node in data["nodes"]}
    return {node["class_type"] for key, node in run["prompt"][2].items() if key not in kept}


def screenshot(page: Any, name: str) -> None:
    """Keep what is seen, to be looked at."""
    page.screenshot(path=str(BROWSER_OUTPUT / f"{name}.png"))


def _middle(place: Any) -> tuple[float, float]:
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
