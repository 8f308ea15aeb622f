"""Every workflow of the repository fits the host; those on the built-in model give a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from devtools.api_copies import api_copy
from devtools.chromium import find_chromium
from devtools.client import ComfyClient
from devtools.paths import API_COPIES, SAMPLE_PHOTO, WORKFLOWS
from devtools.pictures import named_pictures, provide_pictures
from devtools.server import ComfyServer
from devtools.workflow import load_workflow, to_prompt, type_problems
from tests.support import graphs
from tests.support.recovery import PROTECTED_PICTURE, provide_inversion

FILES = sorted(WORKFLOWS.glob("*.json"))
RUNNABLE = [path for path in FILES if not path.stem.startswith("Checkpoint")]
RUN_LIMIT_S = 1200.0
ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'=:])(?:/[\w.-]+){2,}|[A-Za-z]:[\\/]|^~/|\\\\\w")
KEY_WORDS = re.compile(r"AGE-SECRET|BEGIN [A-Z ]*PRIVATE|\bsk-|\bhf_|\bghp_|\bAKIA")
KEY_LIKE = re.compile(r"[0-9a-fA-F]{32,}|(?=[^/]*\d)(?=[^/]*[A-Z])(?=[^/]*[a-z])[\w+=-]{40,}")

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def test_there_are_workflows() -> None:
    assert FILES
    assert RUNNABLE


@each_file
def test_workflow_holds_no_absolute_path_and_no_key(path: Path) -> None:
    texts = [text for node in load_workflow(path)["nodes"] for text in _texts(node)]
    assert texts
    plain = [re.sub(r"https?://\S+", "", text) for text in texts]
    assert [text for text in plain if ABSOLUTE_PATH.search(text)] == []
    assert [text for text in plain if KEY_WORDS.search(text) or KEY_LIKE.search(text)] == []


@each_file
def test_workflow_fits_the_nodes_of_the_host(path: Path, object_info: dict[str, Any]) -> None:
    prompt = to_prompt(load_workflow(path), object_info)
    assert any(node["class_type"].startswith("FacePrivacy_") for node in prompt.values())
    assert any(object_info[node["class_type"]]["output_node"] for node in prompt.values())
    json.dumps(prompt)


@each_file
def test_links_of_the_workflow_join_equal_types(path: Path, object_info: dict[str, Any]) -> None:
    assert type_problems(load_workflow(path), object_info) == []


@each_file
def test_pictures_of_the_workflow_are_samples(path: Path, object_info: dict[str, Any]) -> None:
    names = named_pictures(to_prompt(load_workflow(path), object_info), object_info).values()
    # What other workflows write.
    known = {f"{name} [output]" for name in (graphs.KEYED_PICTURE, PROTECTED_PICTURE)}
    assert [name for name in names if name not in known and not (SAMPLE_PHOTO.parent / name).is_file()] == []


@each_file
def test_copy_for_scripts_is_the_workflow(path: Path, object_info: dict[str, Any]) -> None:
    copy = API_COPIES / path.name
    assert copy.is_file(), "Run: python3 dev.py api"
    assert copy.read_text(encoding="utf-8") == api_copy(path, object_info), "Run: python3 dev.py api"


def test_no_copy_is_left_of_a_workflow_that_is_gone() -> None:
    assert {path.name for path in API_COPIES.glob("*")} == {path.name for path in FILES}


if find_chromium() is None:  # where there is one, the browser presses Run on the same templates

    @pytest.mark.slow
    @pytest.mark.weights
    @pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
    def test_workflow_gives_a_picture(
        path: Path, server: ComfyServer, client: ComfyClient, object_info: dict[str, Any]
    ) -> None:
        prompt = to_prompt(load_workflow(path), object_info)
        graphs.provide_keyed(client, server.base, prompt, object_info)
        provide_inversion(server.base, prompt)
        if path.stem not in ("Decrypt Faces", "Block by Block - Recover Faces"):  # which open what others wrote
            provide_pictures(client, prompt, object_info)
        outcome = client.run(prompt, timeout_s=RUN_LIMIT_S)
        graphs.check_pictures(client, outcome.outputs)
