"""From nothing to a picture by hand, in a virtual environment and with dev.py: README's lines, in its order, and no other."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devtools.client import ComfyClient
from devtools.paths import HOST_TREE, ROOT, WORKFLOWS
from devtools.server import ComfyServer
from devtools.workflow import load_workflow, to_prompt
from faceprivacy_core import weights
from tests.install import readme
from tests.install.bar import FIVE_MINUTES, is_another
from tests.support import bare_host, graphs

FETCHES = "FACEPRIVACY_FETCH" in os.environ
"""Whether packages and models are fetched, as a person does, instead of taken from what is here already."""

pytestmark = pytest.mark.slow


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Path]:
    """The Python of a virtual environment with the host's packages alone."""
    if not (HOST_TREE / "main.py").is_file():
        pytest.skip("The host is not here. Run: python3 dev.py setup")
    yield bare_host.make_environment(tmp_path / "venv")
    shutil.rmtree(tmp_path / "venv")


def test_a_virtual_environment_in_the_two_lines_of_readme(python: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    base = tmp_path / "base"
    pack = bare_host.copy_pack(base)
    if not FETCHES:
        bare_host.install(python, pack / "requirements.txt")
        (base / "models" / "faceprivacy").mkdir()
        for file in weights.FILES:
            shutil.copy(weights.find(file.key), base / "models" / "faceprivacy")
    lines = readme.commands("Install")
    assert [line[0] for line in lines] == ["python", "python"]
    for line in lines:
        bare_host.run([python, *line[1:]], folder=pack)

    with ComfyServer(HOST_TREE, base, python=python) as server:
        client = ComfyClient(server.url)
        name, template = readme.first_template()
        with urllib.request.urlopen(f"{server.url}/workflow_templates", timeout=30) as reply:
            assert template in json.load(reply)[name]
        prompt = to_prompt(load_workflow(pack / WORKFLOWS.name / f"{template}.json"), client.object_info())
        assert is_another(graphs.run(client, prompt).pictures[0])
    assert time.monotonic() - started < FIVE_MINUTES


def test_dev_py_shows_a_picture_without_an_install(tmp_path: Path) -> None:
    lines = readme.commands("Try it without an install")
    assert [line[:2] for line in lines] == [["python3", "dev.py"]] * len(lines)
    offered = bare_host.run([sys.executable, "dev.py", "--help"], folder=ROOT)
    assert {line[2] for line in lines} <= set(offered.split("{")[1].split("}")[0].split(","))
    # What `dev.py demo` does once packages, host and models are here, as they are where this test runs.
    started = time.monotonic()
    shown = bare_host.run([sys.executable, "-m", "devtools.demo", "--out", tmp_path], folder=ROOT)
    assert "not recognised" in shown
    with Image.open(tmp_path / "anonymized.png") as picture:
        assert is_another(np.asarray(picture.convert("RGB")))
    assert time.monotonic() - started < FIVE_MINUTES
