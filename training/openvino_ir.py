"""Runs a network stored as OpenVINO IR (an XML graph and a file of constants) in torch.

Covers the operations of the face generator named in `faces.py`, in any batch size, on any
device. Source of the operations' meaning: the public OpenVINO operation set reference.
Sizes are computed with int64 tensors on the CPU, so nothing waits for the device.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DTYPES = {"f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32}


@dataclass(frozen=True)
class Layer:
    """One operation: its type, its attributes, and where its inputs come from.

    Attributes:
        inputs: (layer id, index of that layer's output) for every input, in order.
    """

    id: str
    kind: str
    attributes: dict[str, str]
    inputs: tuple[tuple[str, int], ...]


class IrNetwork(nn.Module):
    """A frozen network with one input and one output.

    Args:
        xml: The graph.
        constants: Value of every constant, by layer id.

    Floating constants are buffers, so `.to(device, dtype)` moves them; whole numbers, which are
    sizes and axes, stay on the CPU.
    """

    def __init__(self, xml: str, constants: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layers = _sorted(_read_layers(_parse(xml)))
        self.whole: dict[str, Tensor] = {}
        for layer in self.layers:
            if layer.kind == "Const" and constants[layer.id].is_floating_point():
                self.register_buffer(_key(layer.id), constants[layer.id].float())
            elif layer.kind == "Const":
                self.whole[layer.id] = constants[layer.id].long()

    def constants(self) -> dict[str, Tensor]:
        """Return the constants, by layer id."""
        return {key.removeprefix("constant_"): value for key, value in self.state_dict().items()} | self.whole

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) to (B, ...)."""
        values: dict[tuple[str, int], Tensor] = {}
        for layer in self.layers:
            if layer.kind == "Result":
                return values[layer.inputs[0]]
            if layer.kind == "Parameter":
                outputs = (x,)
            elif layer.kind == "Const":
                outputs = (self.whole[layer.id] if layer.id in self.whole else getattr(self, _key(layer.id)),)
            else:
                result = _OPERATIONS[layer.kind](layer.attributes, *(values[source] for source in layer.inputs))
                outputs = result if isinstance(result, tuple) else (result,)
            values.update({(layer.id, i): output for i, output in enumerate(outputs)})
        raise ValueError("Expected a network with a Result, found none.")


def load_ir(xml_path: Path) -> IrNetwork:
    """Load NAME.xml and the NAME.bin beside it, float32, on the CPU."""
    xml, values = xml_path.read_text(encoding="utf-8"), xml_path.with_suffix(".bin").read_bytes()
    layers = [layer for layer in _read_layers(_parse(xml)) if layer.kind == "Const"]
    return IrNetwork(xml, {layer.id: _read_constant(layer.attributes, values) for layer in layers})


def _parse(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)  # noqa: S314 - the user's own file of a known package


def _key(layer_id: str) -> str:
    return f"constant_{layer_id}"


def _read_layers(root: ElementTree.Element) -> list[Layer]:
    ports = {}
    for layer in root.iterfind("layers/layer"):
        for i, port in enumerate(layer.iterfind("output/port")):
            ports[layer.get("id"), port.get("id")] = i
    sources: dict[tuple[str, str], tuple[str, int]] = {}
    for edge in root.iterfind("edges/edge"):
        start = edge.get("from-layer"), edge.get("from-port")
        sources[edge.get("to-layer"), edge.get("to-port")] = (start[0], ports[start])
    layers = []
    for layer in root.iterfind("layers/layer"):
        data = layer.find("data")
        inputs = tuple(sources[layer.get("id"), port.get("id")] for port in layer.iterfind("input/port"))
        attributes = {} if data is None else dict(data.attrib)
        layers.append(Layer(layer.get("id"), layer.get("type"), attributes, inputs))
    return layers


def _sorted(layers: list[Layer]) -> list[Layer]:
    """Order layers so that every input comes first; the result last, unused layers dropped."""
    by_id = {layer.id: layer for layer in layers}
    ordered: dict[str, Layer] = {}
    stack = [layer.id for layer in layers if layer.kind == "Result"]
    while stack:
        layer = by_id[stack[-1]]
        missing = [source for source, _ in layer.inputs if source not in ordered]
        if missing:
            stack.extend(missing)
        else:
            ordered.setdefault(layer.id, layer)
            stack.pop()
    return list(ordered.values())


def _read_constant(attributes: dict[str, str], constants: bytes) -> Tensor:
    dtype = np.dtype(_DTYPES[attributes["element_type"]])
    shape = [int(side) for side in attributes["shape"].split(",") if side.strip()]
    count, offset = int(np.prod(shape)), int(attributes["offset"])
    return torch.from_numpy(np.frombuffer(constants, dtype, count, offset).reshape(shape).copy())


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _symmetric_padding(attributes: dict[str, str]) -> list[int]:
    begin, end = _numbers(attributes["pads_begin"]), _numbers(attributes["pads_end"])
    if begin != end:
        raise ValueError(f"Expected the same padding on both sides, got {begin} and {end}.")
    return begin


def _convolution(attributes: dict[str, str], x: Tensor, weight: Tensor) -> Tensor:
    strides, dilations = _numbers(attributes["strides"]), _numbers(attributes["dilations"])
    return F.conv2d(x, weight, None, strides, _symmetric_padding(attributes), dilations)


def _group_convolution(attributes: dict[str, str], x: Tensor, weight: Tensor) -> Tensor:
    strides, dilations = _numbers(attributes["strides"]), _numbers(attributes["dilations"])
    groups, flat = weight.shape[0], weight.flatten(0, 1)
    return F.conv2d(x, flat, None, strides, _symmetric_padding(attributes), dilations, groups)


def _upsampling_convolution(attributes: dict[str, str], x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise transposed convolution without overlap: every value becomes a small tile.

    weight: (C, 1, 1, kh, kw). A product and a reshape are many times faster than the general
    operation, and a wavelet's synthesis needs nothing else.
    """
    height, width = weight.shape[-2:]
    if _numbers(attributes["strides"]) != [height, width] or weight.shape[1:3] != (1, 1) or any(_symmetric_padding(attributes)):
        raise ValueError(f"Expected a transposed convolution without overlap, got {attributes}, {tuple(weight.shape)}.")
    tiles = x[:, :, :, None, :, None] * weight.view(1, -1, 1, height, 1, width)
    return tiles.reshape(x.shape[0], x.shape[1], x.shape[2] * height, x.shape[3] * width)


def _matmul(attributes: dict[str, str], a: Tensor, b: Tensor) -> Tensor:
    a = a.mT if attributes["transpose_a"] == "true" else a
    return a @ (b.mT if attributes["transpose_b"] == "true" else b)


def _reshape(attributes: dict[str, str], x: Tensor, shape: Tensor) -> Tensor:
    keeps_zero = attributes.get("special_zero") == "true"
    sides = [x.shape[i] if side == 0 and keeps_zero else side for i, side in enumerate(shape.tolist())]
    return x.reshape(sides)


def _prelu(attributes: dict[str, str], x: Tensor, slope: Tensor) -> Tensor:
    return F.prelu(x, slope.flatten())


def _split(attributes: dict[str, str], x: Tensor, axis: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return x.split(lengths.tolist(), int(axis))


def _squeeze(attributes: dict[str, str], x: Tensor, axes: Tensor) -> Tensor:
    return x.squeeze(tuple(axes.flatten().tolist()))


def _unsqueeze(attributes: dict[str, str], x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.flatten().tolist()):
        x = x.unsqueeze(axis)
    return x


def _broadcast(attributes: dict[str, str], x: Tensor, shape: Tensor) -> Tensor:
    """Modes "numpy" and "bidirectional"."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


_OPERATIONS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Add": lambda attributes, a, b: a + b,
    "Multiply": lambda attributes, a, b: a * b,
    "Power": lambda attributes, a, b: a**b,
    "MatMul": _matmul,
    "PReLU": _prelu,
    "ReduceMean": lambda attributes, x, axes: x.mean(axes.flatten().tolist(), keepdim=attributes.get("keep_dims") == "true"),
    "ShapeOf": lambda attributes, x: torch.tensor(x.shape),
    "Gather": lambda attributes, x, index, axis: x.index_select(int(axis), index.flatten()).reshape(index.shape),
    "Concat": lambda attributes, *parts: torch.cat(parts, int(attributes["axis"])),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Broadcast": _broadcast,
    "Tile": lambda attributes, x, repeats: x.repeat(repeats.tolist()),
    "VariadicSplit": _split,
    "Convolution": _convolution,
    "GroupConvolution": _group_convolution,
    "GroupConvolutionBackpropData": _upsampling_convolution,
}
