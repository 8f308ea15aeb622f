"""What is made from the templates: copies for scripts, and the blueprints. Runs inside the venv, with a host of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devtools.blueprints import ALL, blueprint_text
from devtools.client import ComfyClient
from devtools.comfyui import make_base
from devtools.console import say
from devtools.options import api_parser
from devtools.paths import API_COPIES, BLUEPRINTS, HOST_TREE, WORKFLOWS, shown
from devtools.server import ComfyServer, run_to_the_end
from devtools.workflow import load_workflow, to_prompt


def api_copy(path: Path, object_info: Mapping[str, Any]) -> str:
    """Return the text of a template's copy: what `POST /prompt` takes as `prompt`.

    Raises:
        WorkflowError: The template does not fit the nodes of the host.
    """
    return json.dumps(to_prompt(load_workflow(path), object_info), indent=1) + "\n"


def write_api_copies() -> None:
    """Write the blueprints, and the copies of all templates from the definitions of a host that is started for it."""
    API_COPIES.mkdir(exist_ok=True)
    BLUEPRINTS.mkdir(exist_ok=True)
    for blueprint in ALL:
        blueprint.path.write_text(blueprint_text(blueprint), encoding="utf-8")
        say(f"Written: {shown(blueprint.path)}")
    with tempfile.TemporaryDirectory(prefix="face-privacy-api-") as folder:
        with ComfyServer(HOST_TREE, make_base(Path(folder))) as server:
            object_info = ComfyClient(server.url).object_info()
        for path in sorted(WORKFLOWS.glob("*.json")):
            (API_COPIES / path.name).write_text(api_copy(path, object_info), encoding="utf-8")
            say(f"Written: {shown(API_COPIES / path.name)}")


def main() -> int:
    """Run from the command line; the set-up must be done."""
    api_parser().parse_args()
    return run_to_the_end(write_api_copies)


if __name__ == "__main__":
    sys.exit(main())
