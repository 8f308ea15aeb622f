"""Where model files lie: the folders that nodes and commands search alike, and the one that files are fetched into.

The environment variable FACEPRIVACY_MODELS decides alone. Otherwise: the folder chosen in the settings of the host in whose
`custom_nodes` this package lies, its `models/faceprivacy`, the folders its `extra_model_paths.yaml` names, `models/faceprivacy`
of a checkout, and a folder of the user's, which an installed package uses and which every host on the machine finds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .terminal import typed

MODELS_DIR_VARIABLE = "FACEPRIVACY_MODELS"
FOLDER_NAME = "faceprivacy"
EXTRA_PATHS_NAME = "extra_model_paths.yaml"
SETTINGS_NAME = "comfy.settings.json"
FOLDER_SETTING = "FacePrivacy.ModelsFolder"
"""The setting that `web/settings.js` adds to the host's."""
PACK = Path(__file__).absolute().parent.parent
"""Folder above this package, as it was imported: links are kept, for a host links packs into `custom_nodes`."""


def model_folders(pack: Path = PACK) -> list[Path]:
    """Return the folders that are searched for model files, in order; they need not exist.

    Args:
        pack: Folder above the package.
    """
    chosen = os.environ.get(MODELS_DIR_VARIABLE)
    if chosen:
        return [Path(chosen).expanduser()]
    folders = list(_of_host(pack))
    if _is_checkout(pack):
        folders.append(pack.resolve() / "models" / FOLDER_NAME)
    import platformdirs  # late, as yaml: the command line must start at once

    folders.append(Path(platformdirs.user_data_dir("faceprivacy", appauthor=False)) / "models")
    return list(dict.fromkeys(folders))


def default_models_dir() -> Path:
    """Return the folder that files are fetched into when none is named."""
    return model_folders()[0]


def fetch_command(keys: Sequence[str], folder: Path, pack: Path = PACK) -> str:
    """Return the command that fetches model files, as it can be typed on this machine.

    It needs nothing on the search path: it names the Python that runs now and, where the package
    is not installed, the script beside it.

    Args:
        keys: Keys of the files.
        folder: Folder to write to.
        pack: Folder above the package.
    """
    script = pack / "install.py"
    start = [str(script)] if script.is_file() else ["-m", "faceprivacy_core", "models", "get"]
    return typed([sys.executable, *start, *keys, "--to", str(folder)])


def _of_host(pack: Path) -> Iterator[Path]:
    if pack.parent.name != "custom_nodes":
        return
    host = pack.parent.parent
    yield from chosen_folder(host / "user" / "default" / SETTINGS_NAME)
    yield host / "models" / FOLDER_NAME
    yield from extra_folders(host / EXTRA_PATHS_NAME)


def extra_folders(config: Path) -> list[Path]:
    """Return the folders that a host's `extra_model_paths.yaml` names for this pack's files.

    Args:
        config: The file; there need not be one. One that is not as the host expects names no folder here,
            and the host says so itself.
    """
    if not config.is_file():
        return []
    import yaml

    try:
        sections = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    found: list[Path] = []
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict) and isinstance(section.get(FOLDER_NAME), str):
            base = config.parent / os.path.expandvars(os.path.expanduser(str(section.get("base_path") or "")))
            found += [Path(os.path.normpath(base / line)) for line in section[FOLDER_NAME].split("\n") if line]
    return found


def chosen_folder(settings: Path) -> list[Path]:
    """Return the folder that a user chose in the settings of a host's frontend, if there is one.

    Args:
        settings: The file of the user's settings; there need not be one. A path that is not whole, or that leads to another
            computer, chooses nothing: whoever reaches the frontend may write it.
    """
    try:
        folder = Path(read_setting(settings, FOLDER_SETTING)).expanduser()
    except (ValueError, RuntimeError):
        return []
    is_remote = str(folder).startswith(("\\\\", "//"))
    return [folder] if folder.is_absolute() and not is_remote else []


def read_setting(settings: Path, name: str) -> str:
    """Return what a user chose in the settings of a host's frontend, as text; empty where nothing was.

    Args:
        settings: The file of the user's settings; there need not be one.
        name: Of the setting.
    """
    try:
        value = json.loads(settings.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return str(value or "").strip()


def _is_checkout(pack: Path) -> bool:
    return (pack / "pyproject.toml").is_file()
