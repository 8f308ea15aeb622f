"""The pack loaded by the host's own loader, inside this process."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from devtools.comfyui import make_base
from devtools.paths import HOST_TREE, PACK_NAME, ROOT
from tests.support.host_models import Checkpoint, tiny_checkpoint
from tests.support.host_scenes import Core, Scene, builtin_scene

MODULE_NAME = f"custom_nodes.{PACK_NAME}"


@pytest.fixture(scope="session")
def host_nodes(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The host's own module `nodes`; its folders point to a temporary place.

    The host goes first on the import path and the repository leaves it, because both have
    something called `nodes`.
    """
    if not (HOST_TREE / "main.py").is_file():
        pytest.skip("The host is not here. Run: python3 dev.py setup")
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    sys.path.insert(0, str(HOST_TREE))
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.accelerator.is_available()
    import folder_paths

    import nodes

    base = make_base(tmp_path_factory.mktemp("host-in-process"))
    folder_paths.set_input_directory(str(base / "input"))
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.set_temp_directory(str(base / "temp"))
    folder_paths.set_user_directory(str(base / "user"))
    assert Path(nodes.__file__).parent == HOST_TREE
    return nodes


@pytest.fixture(scope="session")
def pack_nodes(host_nodes: ModuleType) -> dict[str, Any]:
    """Every node class of the pack by its id, loaded once."""
    before = set(host_nodes.NODE_CLASS_MAPPINGS)
    folder = _linked_pack()
    is_loaded = asyncio.run(host_nodes.load_custom_node(str(folder), module_parent="custom_nodes"))
    assert is_loaded, "The host could not load the pack; its log above says why."
    found = host_nodes.NODE_CLASS_MAPPINGS
    return {name: found[name] for name in found if name not in before}


@pytest.fixture(scope="session")
def core(pack_nodes: dict[str, Any]) -> Core:
    """Import a module of the pack under the name by which the host loaded it."""
    package = pack_nodes["FacePrivacy_FaceMask"].__module__.rsplit(".", 2)[0]
    return lambda name: importlib.import_module(f"{package}.{name}")


@pytest.fixture
def inside_the_host(host_nodes: ModuleType) -> Iterator[None]:
    """Run a test as the host runs a node."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def scene(pack_nodes: dict[str, Any]) -> Scene:
    """A real crop and the built-in model."""
    import torch

    with torch.inference_mode():
        return builtin_scene(pack_nodes)


@pytest.fixture(scope="module")
def checkpoints(pack_nodes: dict[str, Any]) -> Callable[[str], Checkpoint]:
    """Make a tiny checkpoint of a family, once."""
    return functools.cache(tiny_checkpoint)


@pytest.fixture
def keyed_model(core: Core) -> Callable[..., Any]:
    """Make the core's model from objects of the host."""

    def make(model: Any, vae: Any, positive: Any = None, crop_size: int = 64, *, reversible: bool = True) -> Any:
        return core("nodes._host_keyed").HostKeyedModel(model, vae, positive, crop_size, reversible=reversible)

    return make


def _linked_pack() -> Path:
    """Return the link under which the host finds the pack."""
    import folder_paths

    return Path(folder_paths.get_input_directory()).parent / "custom_nodes" / PACK_NAME
