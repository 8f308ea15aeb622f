"""Reads the constants of a frozen TensorFlow graph without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

_FIELD = descriptor_pb2.FieldDescriptorProto
_DT_FLOAT = 1

# (message, [(field, number, type, repeated, message type)]): the part of TensorFlow's
# graph.proto, node_def.proto, attr_value.proto and tensor.proto that constants need.
_SCHEMA = (
    ("Dim", [("size", 1, _FIELD.TYPE_INT64, False, None)]),
    ("Shape", [("dim", 2, _FIELD.TYPE_MESSAGE, True, "Dim")]),
    (
        "Tensor",
        [
            ("dtype", 1, _FIELD.TYPE_INT32, False, None),
            ("shape", 2, _FIELD.TYPE_MESSAGE, False, "Shape"),
            ("content", 4, _FIELD.TYPE_BYTES, False, None),
            ("float_val", 5, _FIELD.TYPE_FLOAT, True, None),
        ],
    ),
    ("Attribute", [("tensor", 8, _FIELD.TYPE_MESSAGE, False, "Tensor")]),
    (
        "Entry",
        [
            ("key", 1, _FIELD.TYPE_STRING, False, None),
            ("value", 2, _FIELD.TYPE_MESSAGE, False, "Attribute"),
        ],
    ),
    (
        "Node",
        [
            ("name", 1, _FIELD.TYPE_STRING, False, None),
            ("op", 2, _FIELD.TYPE_STRING, False, None),
            ("attributes", 5, _FIELD.TYPE_MESSAGE, True, "Entry"),
        ],
    ),
    ("Graph", [("node", 1, _FIELD.TYPE_MESSAGE, True, "Node")]),
)


def read_constants(path: Path, *, prefix: str) -> dict[str, NDArray[np.float32]]:
    """Read the float constants of a frozen graph.

    Args:
        path: The .pb file.
        prefix: Constants whose name starts with this are read; it is cut off the names.

    Returns:
        Arrays by name, in the graph's own layout (convolutions: height, width, in, out).
    """
    graph = _graph_class().FromString(path.read_bytes())
    constants: dict[str, NDArray[np.float32]] = {}
    for node in graph.node:
        if node.op != "Const" or not node.name.startswith(prefix):
            continue
        tensor = next(entry.value.tensor for entry in node.attributes if entry.key == "value")
        if tensor.dtype != _DT_FLOAT:
            continue
        shape = [dim.size for dim in tensor.shape.dim]
        if tensor.content:
            values = np.frombuffer(tensor.content, dtype="<f4").reshape(shape)
        else:  # a repeated value is stored once
            values = np.broadcast_to(np.array(tensor.float_val).reshape(-1 if shape else ()), shape)
        constants[node.name.removeprefix(prefix)] = values.astype(np.float32)
    return constants


def _graph_class() -> type:
    file = descriptor_pb2.FileDescriptorProto(name="frozen_graph.proto", package="frozen_graph", syntax="proto3")
    for message_name, fields in _SCHEMA:
        message = file.message_type.add(name=message_name)
        for name, number, kind, repeated, type_name in fields:
            message.field.add(
                name=name,
                number=number,
                type=kind,
                label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
                type_name=f".frozen_graph.{type_name}" if type_name else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("frozen_graph.Graph"))
