"""A page of the real frontend in a real Chromium."""

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
READY = "() => window.app && window.app.graph && window.app.extensionManager"
# A fresh profile opens the template dialog over the canvas; these settings keep it closed.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.Persist": False}


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


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The frontend, loaded and ready."""
    request = urllib.request.Request(f"{server.url}/settings", json.dumps(SETTINGS).encode(), {"Content-Type": "text/json"})
    urllib.request.urlopen(request, timeout=30).close()
    BROWSER_OUTPUT.mkdir(parents=True, exist_ok=True)
    opened = browser.new_page(viewport=VIEW)
    opened.goto(server.url, timeout=READY_LIMIT_MS)
    opened.wait_for_function(READY, timeout=READY_LIMIT_MS)
    yield opened
    opened.close()
