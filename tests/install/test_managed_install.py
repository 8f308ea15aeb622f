"""From nothing to a picture the way ComfyUI-Manager goes: a copy of the pack, requirements.txt, install.py."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.client import ComfyClient
from devtools.comfyui import BASE_FOLDERS
from devtools.paths import HOST_TREE
from devtools.server import ComfyServer
from faceprivacy_core import weights
from tests.install.bar import FIVE_MINUTES, is_another
from tests.support import bare_host, graphs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of an environment with the host's packages alone; removed at the end, for it is large."""
    if not (HOST_TREE / "main.py").is_file():
        pytest.skip("The host is not here. Run: python3 dev.py setup")
    folder = tmp_path_factory.mktemp("bare") / "venv"
    yield bare_host.make_environment(folder)
    shutil.rmtree(folder)


def test_a_missing_package_is_told_with_commands_that_mend_it(python: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    base = tmp_path / "base"
    pack = bare_host.copy_pack(base)
    with ComfyServer(HOST_TREE, base, python=python) as server:
        assert "FacePrivacy_FaceMask" not in ComfyClient(server.url).object_info()
        log = server.log_path.read_text(errors="replace")
    assert "Face Privacy could not be loaded: No module named" in log
    first, second = (shlex.split(line) for line in re.findall(r"^    (\S.*)$", log, re.MULTILINE)[-2:])
    assert first == [str(python), "-m", "pip", "install", "-r", str(pack / "requirements.txt")]
    assert second == [str(python), str(pack / "install.py")]

    bare_host.install(python, pack / "requirements.txt")
    models = base / "models" / "faceprivacy"
    models.mkdir()
    for file in weights.FILES:
        shutil.copy(weights.find(file.key), models)
    assert bare_host.run(second).splitlines() == [f"{file.key}: here" for file in weights.FILES]

    with ComfyServer(HOST_TREE, base, python=python) as server:
        assert "IMPORT FAILED" not in server.log_path.read_text(errors="replace")
        client = ComfyClient(server.url)
        prompt = graphs.anonymize_prompt(client.object_info(), "two_people.jpg")
        (picture,) = graphs.run(client, prompt).pictures[-1:]
    assert is_another(picture)
    assert time.monotonic() - started < FIVE_MINUTES
    assert {path.name for path in base.iterdir()} >= set(BASE_FOLDERS)
