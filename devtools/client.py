"""Talk to a running host: upload, queue, follow, fetch. Needs aiohttp, so it runs in the venv."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from devtools.console import DevError

REQUEST_LIMIT_S = 60.0
Follower = Callable[[float, str], None]


class ExecutionError(DevError):
    """A node failed, or the run was interrupted."""


@dataclass(frozen=True)
class Outcome:
    """What a finished prompt left in the history."""

    prompt_id: str
    prompt: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]


class ComfyClient:
    """Client of one host.

    Args:
        url: address of the host, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client_id = uuid.uuid4().hex

    def object_info(self) -> dict[str, Any]:
        """Return the definitions of all nodes."""
        return dict(json.loads(self._request("/object_info")))

    def upload(self, photo: Path) -> str:
        """Upload a picture and return the name by which LoadImage finds it.

        Raises:
            DevError: the file is missing.
        """
        if not photo.is_file():
            raise DevError(f"There is no photo {photo}. Give an existing file with --photo.")
        boundary = uuid.uuid4().hex
        name = photo.name.replace('"', "_")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + photo.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        reply = json.loads(self._request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))
        return f"{reply['subfolder']}/{reply['name']}" if reply["subfolder"] else reply["name"]

    def queue(self, prompt: Mapping[str, Mapping[str, Any]]) -> str:
        """Queue a prompt in API format and return its id.

        Raises:
            ExecutionError: the host refused it; the text names the nodes and the reasons.
        """
        body = json.dumps({"prompt": prompt, "client_id": self._client_id}).encode()
        return str(json.loads(self._request("/prompt", body, "application/json"))["prompt_id"])

    def run(
        self,
        prompt: Mapping[str, Mapping[str, Any]],
        *,
        on_progress: Follower = lambda done, title: None,
        timeout_s: float | None = None,
    ) -> Outcome:
        """Queue a prompt, follow it to its end and return its outputs.

        Args:
            prompt: nodes by id, in API format.
            on_progress: called with the fraction done (0 to 1) and the running node's title.
            timeout_s: seconds after which the run is interrupted; `None` waits for ever.

        Raises:
            ExecutionError: the prompt was refused, a node failed, it was interrupted or took too
                long.
        """
        try:
            prompt_id = asyncio.run(self._follow(prompt, on_progress, timeout_s))
        except (KeyboardInterrupt, SystemExit):
            self.interrupt()
            raise
        except TimeoutError as error:
            self.interrupt()
            raise ExecutionError(f"The run had not ended after {timeout_s:.0f} s.") from error
        return Outcome(prompt_id, prompt, self.outputs(prompt_id))

    def history(self) -> dict[str, Any]:
        """Return every run that the host remembers, by prompt id."""
        return dict(json.loads(self._request("/history")))

    def outputs(self, prompt_id: str) -> dict[str, Any]:
        """Return the outputs of a finished prompt, by node id."""
        history = json.loads(self._request(f"/history/{prompt_id}"))
        if prompt_id not in history:
            raise ExecutionError(f"The host keeps no history of the run {prompt_id}.")
        return dict(history[prompt_id]["outputs"])

    def fetch(self, image: Mapping[str, str]) -> bytes:
        """Return the bytes of a picture that an output names."""
        query = urllib.parse.urlencode({key: image.get(key, "") for key in ("filename", "subfolder", "type")})
        return self._request(f"/view?{query}")

    def interrupt(self) -> None:
        """Stop what runs now."""
        try:
            self._request("/interrupt", b"{}", "application/json")
        except DevError:
            return  # the host is gone, so nothing runs any more

    async def _follow(
        self,
        prompt: Mapping[str, Mapping[str, Any]],
        on_progress: Follower,
        timeout_s: float | None,
    ) -> str:
        address = f"{self.url}/ws?clientId={self._client_id}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
        ):
            prompt_id = self.queue(prompt)
            watch = _Watch(prompt_id, prompt, on_progress)
            await asyncio.wait_for(watch.until_done(socket), timeout_s)
            return prompt_id

    def _request(self, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_LIMIT_S) as reply:
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            raise ExecutionError(_refusal(path, error.code, error.read())) from error
        except (urllib.error.URLError, OSError) as error:
            raise DevError(f"The host does not answer at {path}: {error}. Read its log.") from error


class _Watch:
    """Follow the messages about one prompt."""

    def __init__(self, prompt_id: str, prompt: Mapping[str, Mapping[str, Any]], on_progress: Follower) -> None:
        self._prompt_id = prompt_id
        self._prompt = prompt
        self._on_progress = on_progress
        self._finished: set[str] = set()
        self._current = ""

    async def until_done(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT and self._is_end(json.loads(message.data)):
                return
        raise ExecutionError("The host closed the connection during the run. Read its log.")

    def _is_end(self, message: Mapping[str, Any]) -> bool:
        kind, data = message["type"], message.get("data") or {}
        if data.get("prompt_id") not in (None, self._prompt_id):
            return False
        if kind == "execution_error":
            raise ExecutionError(_failure(data, self._title(str(data.get("node_id")))))
        if kind == "execution_interrupted":
            raise ExecutionError("The run was interrupted.")
        if kind == "execution_cached":
            self._finished.update(map(str, data["nodes"]))
        elif kind == "executing" and data.get("node") is None:
            return True  # sent once the history holds the outputs
        elif kind == "executing":
            if self._current:
                self._finished.add(self._current)
            self._current = str(data.get("display_node") or data["node"])
            self._show(0.0)
        elif kind == "progress" and data.get("max"):
            self._show(data["value"] / data["max"])
        return False

    def _show(self, part: float) -> None:
        done = (len(self._finished) + part) / max(1, len(self._prompt))
        self._on_progress(min(1.0, done), self._title(self._current))

    def _title(self, node_id: str) -> str:
        node = self._prompt.get(node_id, {})
        return str(node.get("_meta", {}).get("title") or node.get("class_type") or node_id)


def _failure(data: Mapping[str, Any], title: str) -> str:
    return (
        f"Node {data.get('node_id')} ({title}, {data.get('node_type')}) failed: "
        f"{data.get('exception_type')}: {str(data.get('exception_message')).strip()}"
    )


def _refusal(path: str, status: int, body: bytes) -> str:
    """Return what the host says about a refused request, each node by name."""
    try:
        reply = json.loads(body)
    except ValueError:
        return f"The host answered {path} with status {status}: {body[:300]!r}."
    lines = [f"The host refused {path}: {(reply.get('error') or {}).get('message', status)}"]
    for node_id, node in (reply.get("node_errors") or {}).items():
        for problem in node["errors"]:
            lines.append(f"  node {node_id} ({node['class_type']}): {problem['message']}: {problem['details']}")
    return "\n".join(lines)
