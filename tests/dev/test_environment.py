"""The environment is filled once for each lock, and the lock is fit for everyone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devtools import environment
from devtools.commands import advice_for, run_quietly
from devtools.console import DevError
from devtools.environment import STAMP_NAME, ensure_environment, is_current, stamp_of
from devtools.paths import LOCK, ROOT, venv_python


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("numpy==2.0\n")
    return path


def _fake_venv(folder: Path) -> None:
    venv_python(folder).parent.mkdir(parents=True, exist_ok=True)
    venv_python(folder).write_text("")


def test_stamp_follows_the_lock_and_the_python(lock: Path) -> None:
    first = stamp_of(lock, (3, 11))
    assert stamp_of(lock, (3, 11)) == first
    assert stamp_of(lock, (3, 12)) != first
    lock.write_text("numpy==2.1\n")
    assert stamp_of(lock, (3, 11)) != first


def test_environment_without_its_python_is_not_current(tmp_path: Path) -> None:
    (tmp_path / STAMP_NAME).write_text("stamp")
    assert not is_current(tmp_path, "stamp")
    _fake_venv(tmp_path)
    assert is_current(tmp_path, "stamp")
    assert not is_current(tmp_path, "another stamp")


def test_second_run_installs_nothing_and_a_failed_one_is_repeated(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv, installs = tmp_path / "venv", []

    def fail(*_: Path) -> None:
        raise DevError("The packages could not be installed.")

    monkeypatch.setattr(environment, "_check_disk", lambda: None)
    monkeypatch.setattr(environment, "_make_venv", _fake_venv)
    monkeypatch.setattr(environment, "_install", fail)
    with pytest.raises(DevError, match="could not be installed"):
        ensure_environment(venv, lock)
    monkeypatch.setattr(environment, "_install", lambda *arguments: installs.append(arguments))
    for _ in range(3):
        assert ensure_environment(venv, lock) == venv_python(venv)
    assert len(installs) == 1
    lock.write_text("numpy==2.1\n")
    ensure_environment(venv, lock)
    assert len(installs) == 2


def test_old_python_and_full_disk_are_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MIN_PYTHON", (9, 9))
    with pytest.raises(DevError, match=r"Python 9\.9 or newer is needed"):
        ensure_environment()
    monkeypatch.setattr(environment, "NEEDED_BYTES", 1 << 80)
    with pytest.raises(DevError, match="Free some space"):
        environment._check_disk()


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("error: Hash mismatch for `numpy`", "not the one that requirements.lock names"),
        ("Temporary failure in name resolution: could not resolve", "Check the network"),
        ("Segmentation fault", "Read the lines above"),
    ],
)
def test_advice_fits_the_failure(output: str, advice: str) -> None:
    assert advice in advice_for(output)


def test_missing_program_is_named() -> None:
    with pytest.raises(DevError, match=r"It broke\. The program 'no-such-program' was not found"):
        run_quietly(["no-such-program"], failure="It broke.")


def test_lock_names_no_index_and_gives_every_package_a_hash() -> None:
    text = LOCK.read_text()
    assert re.search(r"https?:|--(extra-)?index|file:|@ ", text) is None
    packages = [line for line in text.splitlines() if line[:1].isalnum()]
    assert len(packages) > 100
    assert [line for line in packages if not line.endswith("\\")] == []


def test_project_pins_neither_torch_nor_numpy() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '"torch",' in text
    assert '"numpy",' in text
