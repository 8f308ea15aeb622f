"""The command line as a whole: version, start, device, dry run, doctor, and a reader that goes away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faceprivacy_core.commands import COMMANDS, devices, doctor, main
from faceprivacy_core.model_folders import MODELS_DIR_VARIABLE

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs" / "samples" / "portrait.jpg"
SLOW_TO_LOAD = {"torch", "numpy", "cv2", "PIL", "scipy", "diffusers", "onnx2torch", "yaml", "cryptography", "tqdm"}
HOSTS_OWN = {"torch", "torchvision", "numpy"}


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def _declared() -> list[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return re.findall(r'"([\w-]+)', block.group(1))


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert f'version = "{capsys.readouterr().out.split()[1]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_reading_the_command_line_loads_nothing_that_takes_long():
    code = (
        "import sys\nfrom faceprivacy_core.commands import main\n"
        "try:\n    main(['anonymize', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    ran = _python(code)
    assert "--device" in ran.stdout
    assert SLOW_TO_LOAD & set(ran.stderr.split()) == set()


def test_threads_that_wait_do_not_spin_unless_somebody_said_so():
    code = (
        "import os, sys\nfrom faceprivacy_core.commands import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(os.environ['OMP_WAIT_POLICY'] + ' torch' * ('torch' in sys.modules))"
    )
    for given, waits in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )  # fmt: skip
        assert ran.stderr == waits


@pytest.mark.slow
def test_a_run_over_files_loads_converters_and_the_model_only_when_they_are_used():
    ran = _python("import sys\nimport faceprivacy_core.commands.batch\nsys.stderr.write(' '.join(sys.modules))")
    assert ran.returncode == 0, ran.stderr
    assert {"diffusers", "onnx", "onnx2torch", "lpips", "skimage", "torchvision"} & set(ran.stderr.split()) == set()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no broken pipes.")
def test_a_reader_that_goes_away_ends_the_run_without_a_traceback():
    with subprocess.Popen(
        [sys.executable, "-m", "faceprivacy_core", "models", "list"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read().decode()
        status = running.wait()
    assert (said, status) == ("", 141)


def test_auto_is_the_default_device_of_every_command_and_is_one_torch_has():
    import argparse

    import torch

    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.add_parser(commands)
    chosen = [
        action.default
        for sub in commands.choices.values()
        for action in sub._actions
        if "--device" in action.option_strings
    ]  # fmt: skip
    assert chosen == [devices.AUTO] * len(chosen)
    assert len(chosen) >= 6
    torch.empty(1, device=devices.best_device())


@pytest.mark.weights
@pytest.mark.parametrize("command", [["anonymize"], ["cloak"], ["hide"], ["encrypt", "--key", "nobody-has-this"]])
def test_a_dry_run_numbers_faces_and_writes_nothing_else(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*command, str(SAMPLE), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["portrait.faces.png"]
    assert "1 face(s)" in capsys.readouterr().out


@pytest.mark.weights
def test_doctor_finds_this_environment_whole(capsys: pytest.CaptureFixture[str]):
    status = main(["doctor"])
    said = capsys.readouterr().out
    assert "Packages: all here" in said
    assert "Model files: all here" in said
    assert said.count(": well") == 2
    assert status == 0


def test_doctor_says_how_to_fetch_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path / "none"))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "Model files: missing: yunet, sface" in said
    assert "install.py yunet sface" in said
    assert str(tmp_path / "none") in said


def test_doctor_and_the_list_for_the_manager_know_the_same_packages_as_the_project():
    declared = _declared()
    assert list(doctor.MODULES) == declared
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed == sorted(set(declared) - HOSTS_OWN)
