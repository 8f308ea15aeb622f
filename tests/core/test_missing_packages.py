"""What the host's log says when the pack cannot be imported."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from faceprivacy_core import missing_packages
from faceprivacy_core.terminal import typed

ROOT = Path(__file__).parents[2]


def test_a_missing_package_gives_two_commands_that_name_python_and_files(tmp_path: Path):
    pack = tmp_path / "a pack"
    text = missing_packages.advice(ModuleNotFoundError("No module named 'diffusers'", name="diffusers"), pack)
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands == [
        typed([sys.executable, "-m", "pip", "install", "-r", str(pack / "requirements.txt")]),
        typed([sys.executable, str(pack / "install.py")]),
    ]
    for word in ("No module named 'diffusers'", "Desktop", "portable", "virtual environment", "Try fix"):
        assert word in text


def test_an_environment_without_pip_is_told_of_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    text = missing_packages.advice(ImportError("libGL.so.1: cannot open shared object file"), tmp_path)
    assert typed(["uv", "pip", "install", "--python", sys.executable, "-r", str(tmp_path / "requirements.txt")]) in text


@pytest.mark.parametrize("name", ["comfy_api.latest", "comfy_execution"])
def test_a_missing_module_of_the_host_means_that_the_host_is_old(tmp_path: Path, name: str):
    text = missing_packages.advice(ModuleNotFoundError(f"No module named '{name}'", name=name), tmp_path)
    assert "Update ComfyUI to 0.30.0 or newer" in text
    assert "pip" not in text
    assert f'">={missing_packages.NEEDED_HOST}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["missing_packages", "terminal"])
def test_the_advice_needs_the_standard_library_alone(name: str):
    tree = ast.parse((ROOT / "faceprivacy_core" / f"{name}.py").read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    assert {found.split(".")[0] for found in names} <= sys.stdlib_module_names


def test_without_the_packages_install_says_what_to_run(tmp_path: Path):
    import subprocess

    (tmp_path / "faceprivacy_core").mkdir()
    (tmp_path / "faceprivacy_core" / "__init__.py").write_text("import a_package_that_is_not_here")
    (tmp_path / "install.py").write_bytes((ROOT / "install.py").read_bytes())
    ran = subprocess.run([sys.executable, "install.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "-m pip install -r requirements.txt" in ran.stderr
    assert "Traceback" not in ran.stderr
