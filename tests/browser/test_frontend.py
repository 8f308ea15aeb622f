"""Every template opens in the real frontend, whole, and runs at the press of its button; words find the one node."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from devtools.client import ComfyClient
from devtools.paths import PACK_NAME, WORKFLOWS
from devtools.server import ComfyServer
from devtools.workflow import load_workflow, to_prompt
from tests.support import frontend, graphs
from tests.support.recovery import provide_inversion

FILES = sorted(WORKFLOWS.glob("*.json"))
RUNNABLE = [path for path in FILES if not path.stem.startswith("Checkpoint")]
MINUTES = ("Block by Block - Hide Identity", "Change Looks", "Block by Block - Cloak Faces", "Cloak Faces")
"""Templates that run when asked to; their nodes run in the tests of the host."""
FIRST = "Anonymize Faces"
"""The template that README begins with: it is opened from the list."""
SEARCH = """async (word) => {
    const stores = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s;
    for (let tries = 0; tries < 100 && !stores.get("nodeFrequency"); tries++)
        await new Promise((done) => setTimeout(done, 100));
    await stores.get("nodeFrequency").loadNodeFrequencies();
    return stores.get("nodeDef").nodeSearchService.searchNode(word).map((node) => [node.name, node.display_name]);
}"""
"""Names and titles of what a word finds, with the use counts that the frontend ranks by once its search was opened."""
ANONYMIZE, BLUR = "FacePrivacy_AnonymizeFaces", "FacePrivacy_BlurFaces"


def test_templates_of_the_pack_are_offered(server: ComfyServer) -> None:
    with urllib.request.urlopen(f"{server.url}/workflow_templates", timeout=30) as reply:
        offered = json.load(reply)
    assert sorted(offered[PACK_NAME]) == sorted(path.stem for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_template_opens_whole_and_makes_the_prompt_of_the_converter(page: Any, path: Path, object_info: dict[str, Any]) -> None:
    workflow = frontend.open_file(page, path)
    frontend.screenshot(page, path.stem)
    state = page.evaluate(frontend.STATE)
    assert state["missing"] == []
    if path in RUNNABLE:  # the others ask for checkpoints that are not here
        needs_a_run = "[output]" in path.read_text(encoding="utf-8")  # a picture that another workflow leaves, if it ran
        assert set(state["flagged"]) <= ({"LoadImage"} if needs_a_run else set())
    assert state["nodes"] == len(workflow["nodes"])
    assert state["links"] == len(workflow["links"])
    theirs, ours = page.evaluate(frontend.PROMPT), to_prompt(workflow, object_info)
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
    if path.stem == FIRST:
        frontend.open_from_list(page, path.stem)
    else:
        frontend.open_file(page, path)
    run = frontend.press_run(page, client)
    frontend.screenshot(page, f"{path.stem}_done")
    graphs.check_pictures(client, run["outputs"])


@pytest.mark.parametrize(
    "word",
    ["anonymize", "pixelate", "censor", "redact", "gdpr", "privacy", "anonymize faces", "mosaic", "hide face"],
)
def test_searching_finds_the_one_node_first(page: Any, word: str) -> None:
    found = page.evaluate(SEARCH, word)
    assert found[0][0] == ANONYMIZE, found


def test_searching_for_blur_finds_the_node_that_blurs_faces(page: Any) -> None:
    """Of titles that begin with the word the frontend takes first what is used most, and everybody uses the stock node."""
    assert [title for _, title in page.evaluate(SEARCH, "blur")][:2] == ["Blur Image", "Blur Faces"]
    assert page.evaluate(SEARCH, "blur faces")[0][0] == BLUR


def test_the_folder_of_model_files_and_the_language_of_reports_are_settings(page: Any, server: ComfyServer) -> None:
    def kept() -> dict[str, Any]:
        page.wait_for_timeout(frontend.STEP_MS)
        return json.loads((server.base / "user" / "default" / "comfy.settings.json").read_text(encoding="utf-8"))

    page.get_by_role("button", name="Settings").first.click()
    dialog = page.get_by_test_id("settings-dialog")
    dialog.get_by_text("Face Privacy", exact=True).click()
    entry = dialog.locator('[id="FacePrivacy.ModelsFolder"]').last
    for folder in ("/somewhere/faces", ""):  # the other tests search where they did before
        entry.fill(folder)
        entry.blur()
        assert kept()["FacePrivacy.ModelsFolder"] == folder
    for language, code in (("日本語", "ja"), ("English", "en")):
        dialog.locator('[id="FacePrivacy.ReportLanguage"]').last.click()
        page.get_by_role("option", name=language, exact=True).click()
        assert kept()["FacePrivacy.ReportLanguage"] == code
    page.keyboard.press("Escape")
