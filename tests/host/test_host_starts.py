"""The real host starts with the pack, and shows every node as the pack promises."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import PACK_NAME
from devtools.server import ComfyServer
from devtools.widgets import DYNAMIC_COMBO, InputSpec, input_specs


@pytest.fixture(scope="session")
def our_nodes(server: ComfyServer, object_info: Mapping[str, Any]) -> dict[str, Any]:
    module = f"custom_nodes.{PACK_NAME}"
    found = {key: node for key, node in object_info.items() if node["python_module"] == module}
    assert found, f"The host loaded no node of this pack. Its log ends:\n{server.log_tail(60)}"
    return found


def _all_inputs(definition: Mapping[str, Any]) -> Iterator[InputSpec]:
    for spec in input_specs(definition):
        yield spec
        if spec.kind == DYNAMIC_COMBO:
            for option in spec.options["options"]:
                yield from _all_inputs(option["inputs"])


def test_host_loads_the_pack_without_a_failed_import(server: ComfyServer, our_nodes: dict[str, Any]) -> None:
    log = server.log_path.read_text(errors="replace")
    assert "Import times for custom nodes" in log
    assert "IMPORT FAILED" not in log


def test_every_node_id_begins_with_the_name_of_the_pack(our_nodes: dict[str, Any]) -> None:
    assert [key for key in our_nodes if not key.startswith("FacePrivacy_")] == []


def test_every_node_lies_in_our_category(our_nodes: dict[str, Any]) -> None:
    outside = [k for k, node in our_nodes.items() if not node["category"].startswith("face privacy")]
    assert outside == []


def test_every_node_has_a_description_and_a_title_of_its_own(our_nodes: dict[str, Any]) -> None:
    assert [key for key, node in our_nodes.items() if not node["description"]] == []
    titles = [node["display_name"] for node in our_nodes.values()]
    assert len(set(titles)) == len(titles)


def test_every_input_has_a_tooltip(our_nodes: dict[str, Any]) -> None:
    bare = [
        f"{key}.{spec.name}" for key, node in our_nodes.items() for spec in _all_inputs(node) if not spec.options.get("tooltip")
    ]
    assert bare == []


def test_every_schema_input_is_a_parameter_of_execute(pack_nodes: dict[str, Any]) -> None:
    assert pack_nodes
    for key, node in pack_nodes.items():
        schema_ids = [entry.id for entry in node.GET_SCHEMA().inputs]
        parameters = list(inspect.signature(node.execute).parameters)
        assert sorted(schema_ids) == sorted(parameters), key


def test_loader_and_server_show_the_same_nodes(pack_nodes: dict[str, Any], our_nodes: dict[str, Any]) -> None:
    assert set(pack_nodes) == set(our_nodes)


def test_refused_prompt_names_the_node_and_the_reason(client: ComfyClient) -> None:
    prompt = {"7": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}
    with pytest.raises(ExecutionError, match=r"node 7 \(SaveImage\).*images"):
        client.run(prompt)
