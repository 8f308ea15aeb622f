"""Which widgets the frontend gives a node, and which saved value belongs to which.

A saved graph keeps the values of a node's widgets as a bare list. Their order follows from the
node's definition in `/object_info`, with companions that the frontend adds on its own: the
control after a seed and the upload button after a file menu.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devtools.console import DevError

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"})
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
SEED_NAMES = frozenset({"seed", "noise_seed"})
UPLOAD_OPTIONS = ("image_upload", "animated_image_upload", "video_upload", "audio_upload")
CONTROL_VALUES = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})


class WorkflowError(DevError):
    """A saved graph that does not fit the nodes of the running host."""


@dataclass(frozen=True)
class InputSpec:
    """One input as `/object_info` describes it."""

    name: str
    kind: str
    options: Mapping[str, Any]
    required: bool
    choices: tuple[Any, ...] | None = None

    @property
    def has_widget(self) -> bool:
        """Say whether the frontend gives this input a widget."""
        if self.options.get("forceInput") or self.options.get("rawLink"):
            return False
        return self.kind in WIDGET_TYPES or self.kind == DYNAMIC_COMBO

    @property
    def has_control(self) -> bool:
        """Say whether a `control after generate` widget follows."""
        chosen = self.options.get("control_after_generate")
        if chosen is None:
            return self.kind == "INT" and self.name in SEED_NAMES
        return bool(chosen)

    @property
    def has_upload(self) -> bool:
        """Say whether an upload button belongs to this menu."""
        return any(self.options.get(option) for option in UPLOAD_OPTIONS)


def input_specs(definition: Mapping[str, Any]) -> list[InputSpec]:
    """Return the inputs of a node definition (or of a dynamic menu's choice), in display order."""
    inputs = definition.get("input", definition)
    order = definition.get("input_order", {})
    specs: list[InputSpec] = []
    for group in ("required", "optional"):
        known = inputs.get(group) or {}
        names = order.get(group) or list(known)
        specs += [_spec(name, known[name], group == "required") for name in names if name in known]
    return specs


def _spec(name: str, raw: Sequence[Any], required: bool) -> InputSpec:
    options = raw[1] if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
    if isinstance(raw[0], list):
        return InputSpec(name, "COMBO", options, required, tuple(raw[0]))
    choices = options.get("options") if raw[0] == "COMBO" else None
    return InputSpec(name, str(raw[0]), options, required, tuple(choices) if choices else None)


@dataclass
class _Values:
    """Hand out saved values one after the other."""

    where: str
    left: list[Any]
    expected: list[str] = field(default_factory=list)

    def take(self, name: str) -> Any:
        self.expected.append(name)
        if not self.left:
            raise WorkflowError(
                f"{self.where} has too few saved widget values: none is left for "
                f"{name!r} (expected in this order: {', '.join(self.expected)}, ...). Open the "
                "workflow in the frontend, look at the node and save it again."
            )
        return self.left.pop(0)

    def skip(self, name: str, values: frozenset[str] | None = None) -> None:
        """Drop the value of a companion; older graphs may not hold it."""
        self.expected.append(name)
        if self.left and (values is None or self.left[0] in values):
            self.left.pop(0)


def widget_values(where: str, definition: Mapping[str, Any], saved: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Give each widget of a node its saved value.

    Args:
        where: how to name the node in an error.
        definition: the node's entry in `/object_info`.
        saved: `widgets_values` of the saved node.

    Returns:
        Value for each widget input, by the input's name.

    Raises:
        WorkflowError: there are too few or too many values, or a name is unknown.
    """
    specs = input_specs(definition)
    if isinstance(saved, Mapping):
        return _named_values(where, specs, saved)
    values = _Values(where, list(saved))
    found: dict[str, Any] = {}
    for required in (True, False):
        group = [spec for spec in specs if spec.required is required]
        _fill(group, "", values, found)
        for spec in group:
            if spec.has_upload:
                values.skip("upload")
    if values.left:
        raise WorkflowError(
            f"{where} has {len(values.left)} saved widget value(s) too many: {values.left!r} "
            f"(expected: {', '.join(values.expected) or 'none'}). Open the workflow in the "
            "frontend, look at the node and save it again."
        )
    return found


def _fill(specs: Sequence[InputSpec], prefix: str, values: _Values, found: dict[str, Any]) -> None:
    for spec in specs:
        if not spec.has_widget:
            continue
        name = prefix + spec.name
        found[name] = values.take(name)
        if spec.has_control:
            values.skip("control_after_generate", CONTROL_VALUES)
        if spec.kind == DYNAMIC_COMBO:
            chosen = _choice_inputs(values.where, spec, found[name])
            _fill(chosen, f"{name}.", values, found)


def _choice_inputs(where: str, spec: InputSpec, chosen: Any) -> list[InputSpec]:
    known = {option["key"]: option["inputs"] for option in spec.options.get("options", ())}
    if chosen not in known:
        raise WorkflowError(
            f"{where}: {spec.name!r} is {chosen!r}, but the node offers {', '.join(known)}. "
            "Choose one of these in the frontend and save the workflow again."
        )
    return input_specs(known[chosen])


def _named_values(where: str, specs: Sequence[InputSpec], saved: Mapping[str, Any]) -> dict[str, Any]:
    names = {spec.name for spec in specs if spec.has_widget}
    unknown = [name for name in saved if name.split(".")[0] not in names]
    if unknown:
        raise WorkflowError(
            f"{where} holds values for unknown widgets: {', '.join(unknown)}. The node has "
            f"{', '.join(sorted(names)) or 'no widgets'}. Save the workflow again."
        )
    return dict(saved)


def socket_names(definition: Mapping[str, Any], values: Mapping[str, Any], where: str) -> Iterator[InputSpec]:
    """Yield every input that a link may reach, those of chosen dynamic menus included."""
    for spec in input_specs(definition):
        yield spec
        if spec.kind == DYNAMIC_COMBO and spec.name in values:
            for child in _choice_inputs(where, spec, values[spec.name]):
                yield InputSpec(f"{spec.name}.{child.name}", child.kind, child.options, child.required)
