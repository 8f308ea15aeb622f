"""A page of the real frontend in a real Chromium, as somebody has it who looks at several things one after the other."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from devtools.chromium import FLAGS, find_chromium
from devtools.paths import BROWSER_OUTPUT

VIEW = {"width": 1600, "height": 900}
READY_LIMIT_MS = 120_000
LIMIT_MS = 60_000
READY = "() => window.app && window.app.graph && window.app.extensionManager"
# A fresh profile opens the template dialog over the canvas; these settings keep it closed.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.Persist": False}
NODES_2 = "Comfy.VueNodes.Enabled"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A running Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip("No Chromium was found. Install Chromium or Chrome.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(browser: Any, server: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The frontend, loaded and ready; with Nodes 2.0 in modules whose name ends in it."""
    settings = json.dumps(SETTINGS | {NODES_2: request.module.__name__.endswith("nodes_2")}).encode()
    posted = urllib.request.Request(f"{server.url}/settings", settings, {"Content-Type": "text/json"})
    urllib.request.urlopen(posted, timeout=30).close()
    BROWSER_OUTPUT.mkdir(parents=True, exist_ok=True)
    opened = browser.new_page(viewport=VIEW)
    opened.set_default_timeout(LIMIT_MS)
    opened.goto(server.url, timeout=READY_LIMIT_MS)
    opened.wait_for_function(READY, timeout=READY_LIMIT_MS)
    yield opened
    opened.close()
