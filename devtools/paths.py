"""Where things lie, relative to the repository."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK_NAME = "face-privacy-diffusion"

VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
HOST_HOME = ROOT / ".host"
HOST_TREE = HOST_HOME / "ComfyUI"
HOST_BASE = HOST_HOME / "base"

OUTPUT = ROOT / "output"
DEMO_OUTPUT = OUTPUT / "demo"
BROWSER_OUTPUT = OUTPUT / "browser"
WORKFLOWS = ROOT / "workflows"
BLUEPRINTS = ROOT / "subgraphs"
API_COPIES = WORKFLOWS / "api"
DEFAULT_WORKFLOW = "Anonymize Faces"
DOCS_IMAGES = ROOT / "docs" / "images"
SAMPLE_PHOTO = ROOT / "docs" / "samples" / "two_people.jpg"


def venv_python(venv: Path = VENV) -> Path:
    """Return the interpreter of a virtual environment, whether it exists or not."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def shown(path: Path) -> str:
    """Return a path as it is printed: relative to the repository where it lies inside."""
    try:
        return path.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return str(path)
