"""What all tests share: markers by folder, fixed seeds, no network, and the running host."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.paths import HOST_TREE, ROOT

TESTS = Path(__file__).parent
FOLDER_MARKERS = {"host": ["host"], "workflows": ["host"], "browser": ["host", "browser"], "install": ["host"]}
LOCAL_ADDRESSES = {"127.0.0.1", "::1", "localhost", "0.0.0.0"}  # noqa: S104 - only compared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the host's folders, so that `-m "not host"` leaves them out."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        for marker in FOLDER_MARKERS.get(item.path.relative_to(TESTS).parts[0], []):
            item.add_marker(marker)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same random state, without importing anything for it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests reach this machine only."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in LOCAL_ADDRESSES:
            pytest.fail(f"A test tried to reach {address[0]}. Tests run without a network.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real host with this pack linked, on a free port, with keys of its own; stopped at the end."""
    from devtools.comfyui import make_base
    from devtools.server import ComfyServer
    from tests.support.keys import key_environment

    if not (HOST_TREE / "main.py").is_file():
        pytest.skip("The host is not here. Run: python3 dev.py setup")
    if not (ROOT / "__init__.py").is_file():
        pytest.skip("The pack has no __init__.py, so the host cannot load it.")
    base = make_base(tmp_path_factory.mktemp("host"))
    with ComfyServer(HOST_TREE, base, environment=key_environment(base)) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Any) -> Any:
    """Client of the running host."""
    from devtools.client import ComfyClient

    return ComfyClient(server.url)


@pytest.fixture(scope="session")
def object_info(client: Any) -> dict[str, Any]:
    """Definitions of all nodes that the running host knows."""
    return client.object_info()
