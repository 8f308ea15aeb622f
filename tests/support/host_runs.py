"""What running a prompt on the real host left behind: files, errors as its history tells them, chunks of a PNG."""

from __future__ import annotations

import json
import struct
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.client import ComfyClient, ExecutionError
from devtools.workflow import Prompt
from tests.support import graphs

HISTORY_LIMIT_S = 20.0
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Failure:
    """A node's error in the host's history.

    Attributes:
        node: Type of the node.
        kind: Name of the error's class, without its module.
        message: Its text.
        shown: What the host shows of the node's inputs, as text.
    """

    node: str
    kind: str
    message: str
    shown: str


def written(base: Path) -> set[Path]:
    """Return all files in the output folder of a host."""
    return {path for path in (base / "output").rglob("*") if path.is_file()}


def failure(client: ComfyClient, base: Path, prompt: Prompt) -> Failure:
    """Run a prompt that must fail in a node and write no file; return the error."""
    before, known = written(base), set(client.history())
    with pytest.raises(ExecutionError):
        graphs.run(client, prompt)
    assert written(base) == before, "A failed run wrote a file."
    run = _new_run(client, known, HISTORY_LIMIT_S)  # written a moment after the client hears of the error
    (data,) = [data for kind, data in run["status"]["messages"] if kind == "execution_error"]
    kind = data["exception_type"].rsplit(".", 1)[-1]
    return Failure(data["node_type"], kind, data["exception_message"].strip(), str(data["current_inputs"]))


def run_as_browser(client: ComfyClient, prompt: Prompt, workflow: dict[str, Any]) -> dict[str, Any]:
    """Run a prompt as the frontend does, which sends the workflow along; return the outputs by node."""
    known = set(client.history())
    body = json.dumps({"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}).encode()
    request = urllib.request.Request(f"{client.url}/prompt", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()
    run = _new_run(client, known, graphs.RUN_LIMIT_S)
    assert run["status"]["status_str"] == "success", run["status"]["messages"]
    return dict(run["outputs"])


def get(client: ComfyClient, path: str) -> bytes:
    """Fetch what the host tells at an address."""
    with urllib.request.urlopen(f"{client.url}{path}", timeout=30) as reply:
        return bytes(reply.read())


def _new_run(client: ComfyClient, known: set[str], limit_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + limit_s
    while not (new := client.history().keys() - known):
        assert time.monotonic() < deadline, "The run is not in the history."
        time.sleep(0.1)
    (key,) = new
    return dict(client.history()[key])


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG, name and content."""
    assert png.startswith(PNG_SIGNATURE)
    found, start = [], len(PNG_SIGNATURE)
    while start < len(png):
        (length,) = struct.unpack_from(">I", png, start)
        found.append((png[start + 4 : start + 8], png[start + 8 : start + 8 + length]))
        start += length + 12
    return found


def saved(outcome: Any, prompt: Prompt, fetch: Callable[[Any], bytes]) -> list[bytes]:
    """Return the bytes of the files that Save Keyed Image wrote."""
    return [fetch(image) for image in outcome.outputs[graphs.node_id(prompt, graphs.SAVE_KEYED)]["images"]]


def report(outcome: Any, prompt: Prompt) -> str:
    """Return the text that Preview as Text shows."""
    return str(outcome.outputs[graphs.node_id(prompt, "PreviewAny")]["text"][0])
