"""Turn a workflow as the frontend saves it into the prompt that the host's API takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from devtools.graph import (
    MODE_BYPASSED,
    MODE_MUTED,
    NOTE_TYPES,
    VIRTUAL_TYPES,
    Constant,
    Graph,
    Link,
    read_graph,
    title_of,
)
from devtools.widgets import WorkflowError, socket_names, widget_values

Prompt = dict[str, dict[str, Any]]
ObjectInfo = Mapping[str, Mapping[str, Any]]
ANY_TYPE = "*"


def load_workflow(path: Path) -> dict[str, Any]:
    """Read a workflow file.

    Raises:
        WorkflowError: the file is missing or is not JSON.
    """
    if not path.is_file():
        raise WorkflowError(f"There is no workflow {path.name} in {path.parent.name}/.")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise WorkflowError(f"{path.name} is not JSON: {error}. Save the workflow again.") from error


def to_prompt(workflow: Mapping[str, Any], object_info: ObjectInfo) -> Prompt:
    """Convert a saved graph to API format.

    Args:
        workflow: graph with `nodes`, `links` and `widgets_values`, as the frontend saves it.
        object_info: the running host's `/object_info`.

    Returns:
        Nodes by id, each with `class_type`, `inputs` and its title under `_meta`.

    Raises:
        WorkflowError: a node, an input or the number of widget values does not fit the host.
    """
    graph = read_graph(workflow)
    prompt: Prompt = {}
    for node_id, node in graph.nodes.items():
        if node["type"] in VIRTUAL_TYPES or node.get("mode") in (MODE_MUTED, MODE_BYPASSED):
            continue
        definition = _definition(node, object_info)
        prompt[node_id] = {
            "class_type": node["type"],
            "inputs": _inputs(graph, node, definition),
            "_meta": {"title": node.get("title") or definition.get("display_name") or node["type"]},
        }
    return prompt


def type_problems(workflow: Mapping[str, Any], object_info: ObjectInfo) -> list[str]:
    """Return one sentence for each link whose two ends do not fit each other."""
    graph = read_graph(workflow)
    return [problem for link in graph.links.values() if (problem := _link_problem(graph, link, object_info)) is not None]


def set_values(prompt: Prompt, settings: Iterable[str]) -> None:
    """Apply `NODE.WIDGET=VALUE` settings; NODE is an id, a title or a node type.

    Raises:
        WorkflowError: the text has another form, or no or several nodes are meant.
    """
    for setting in settings:
        name, has_value, text = setting.partition("=")
        node_name, has_widget, widget = name.partition(".")
        if not has_value or not has_widget:
            raise WorkflowError(f"Expected NODE.WIDGET=VALUE, got {setting!r}.")
        inputs = _one_node(prompt, node_name)["inputs"]
        if widget not in inputs:
            raise WorkflowError(f"{node_name} has no widget {widget!r}; it has {', '.join(inputs) or 'none'}.")
        try:
            inputs[widget] = json.loads(text)
        except ValueError:
            inputs[widget] = text


def _definition(node: Mapping[str, Any], object_info: ObjectInfo) -> Mapping[str, Any]:
    if node["type"] not in object_info:
        raise WorkflowError(
            f"{title_of(node)}: the host knows no node {node['type']!r}. Look into the host's log "
            "for a pack that failed to load, or save the workflow with current nodes."
        )
    return object_info[node["type"]]


def _inputs(graph: Graph, node: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    where = title_of(node)
    inputs = {
        name: {"__value__": value} if isinstance(value, list) else value
        for name, value in widget_values(where, definition, node.get("widgets_values") or []).items()
    }
    known = {spec.name for spec in socket_names(definition, inputs, where)}
    for slot in node.get("inputs") or []:
        name = (slot.get("widget") or {}).get("name") or slot["name"]
        if name not in known and not _is_growing(name, definition):
            raise WorkflowError(
                f"{where} has a saved input {name!r} that the node does not have; it has "
                f"{', '.join(sorted(known)) or 'none'}. Save the workflow with current nodes."
            )
        source = graph.source(slot["link"]) if slot.get("link") is not None else None
        if isinstance(source, Constant):
            inputs[name] = source.value
        elif source is not None:
            inputs[name] = list(source)
    return inputs


def _is_growing(name: str, definition: Mapping[str, Any]) -> bool:
    """Say whether an input such as `images.image0` belongs to a list that grows."""
    groups = definition.get("input", {})
    kinds = {**(groups.get("required") or {}), **(groups.get("optional") or {})}
    raw = kinds.get(name.partition(".")[0])
    return raw is not None and str(raw[0]).startswith("COMFY_AUTOGROW")


def _link_problem(graph: Graph, link: Link, object_info: ObjectInfo) -> str | None:
    origin, target = graph.nodes.get(link.origin), graph.nodes.get(link.target)
    if origin is None or target is None:
        return f"Link {link.id} hangs in the air: it joins {link.origin} and {link.target}."
    if target["type"] in VIRTUAL_TYPES or origin["type"] in VIRTUAL_TYPES - NOTE_TYPES:
        return None
    outputs = list(_definition(origin, object_info)["output"])
    if link.origin_slot >= len(outputs):
        return f"{title_of(origin)} has no output {link.origin_slot} (link {link.id})."
    slots = target.get("inputs") or []
    if link.target_slot >= len(slots) or slots[link.target_slot].get("link") != link.id:
        return f"{title_of(target)} does not name link {link.id} at input {link.target_slot}."
    name = slots[link.target_slot]["name"]
    wanted = _input_kind(target, name, _definition(target, object_info))
    if wanted is None or _fits(outputs[link.origin_slot], wanted):
        return None
    return (
        f"Link {link.id} brings {outputs[link.origin_slot]} from {title_of(origin)} to "
        f"{name!r} of {title_of(target)}, which takes {wanted}."
    )


def _input_kind(node: Mapping[str, Any], name: str, definition: Mapping[str, Any]) -> str | None:
    where = title_of(node)
    values = widget_values(where, definition, node.get("widgets_values") or [])
    specs = {spec.name: spec for spec in socket_names(definition, values, where)}
    return specs[name].kind if name in specs else None


def _fits(given: Any, wanted: str) -> bool:
    given_kinds = {"COMBO"} if isinstance(given, list) else set(str(given).split(","))
    wanted_kinds = set(wanted.split(","))
    is_loose = any(kind.startswith("COMFY_MATCHTYPE") for kind in given_kinds | wanted_kinds)
    return is_loose or ANY_TYPE in given_kinds | wanted_kinds or bool(given_kinds & wanted_kinds)


def _one_node(prompt: Prompt, name: str) -> dict[str, Any]:
    found = [node for key, node in prompt.items() if name in (key, node["class_type"], node["_meta"]["title"])]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{key} ({node['class_type']})" for key, node in prompt.items())
    count = "no node" if not found else f"{len(found)} nodes"
    raise WorkflowError(f"{count} of the workflow match {name!r}; it has: {known}. Use a number.")
