"""Nodes that write: a full disk or Ctrl-C at any step leaves all or nothing, and no file is ever replaced."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.failing_disk import contents, failing_disk
from tests.support.host_scenes import Core

pytestmark = pytest.mark.usefixtures("inside_the_host")

VECTORS = Path(__file__).parents[1] / "vectors" / "v2"
Save = Callable[[], object]


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / "output" / "keys"))
    return tmp_path / "output"


@pytest.fixture(params=["clean", "keyed", "inversion", "key"])
def save(request: pytest.FixtureRequest, pack_nodes: dict[str, Any], core: Core) -> Save:
    import torch

    def node(name: str) -> Any:
        return pack_nodes[f"FacePrivacy_{name}"]

    if request.param == "clean":
        picture = torch.zeros(1, 24, 40, 3)
        return lambda: node("SaveCleanImage").execute(picture, "a_%batch_num%", "PNG", 95, True)
    if request.param == "keyed":
        stored = core("faceprivacy_core.keyed.files").read_keyed(VECTORS / "two_keys.png")
        keyed = core("faceprivacy_core.keyed.picture").KeyedPicture.from_container(*stored)
        return lambda: node("SaveKeyedImage").execute((keyed,), "a_%batch_num%", True, False)
    if request.param == "inversion":
        stored = core("faceprivacy_core.inversions.files").read_inversion_file(VECTORS / "unprotected.fpinv")
        stages = torch.zeros(1, len(stored.crops), 1, 1)
        made = core("faceprivacy_core.inversions.stored").Conditions(stages, stages[:, 0])
        inversion = stored.with_conditions(lambda _: made)
        return lambda: node("SaveInversion").execute(inversion, "a_%batch_num%", True)
    return lambda: node("PrivacyKey").execute("fresh", create=True)


def full() -> NoReturn:
    raise OSError(28, "No space left on device")


def stopped() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fail", [full, stopped])
def test_a_failure_at_any_step_leaves_all_or_nothing(save: Save, fail: Callable[[], NoReturn], output: Path):
    save()
    whole = {name: len(content) for name, content in contents(output).items()}
    for at in range(1, 50):
        shutil.rmtree(output, ignore_errors=True)
        # The last step brings the folder to the disk; a failure of it changes nothing.
        with failing_disk(at, fail, watched=output) as disk, contextlib.suppress(OSError, ValueError, KeyboardInterrupt):
            save()
        assert disk.foreign == []
        left = {name: len(content) for name, content in contents(output).items()}
        if not disk.has_failed:
            assert left == whole
            break
        assert left in ({}, whole)
    assert at > 4


def test_what_is_there_stays(save: Save, output: Path):
    save()
    before = contents(output)
    save()
    after = contents(output)
    assert {name: after[name] for name in before} == before
    assert len(after) == (len(before) if "keys/fresh.key" in before else 2 * len(before))
