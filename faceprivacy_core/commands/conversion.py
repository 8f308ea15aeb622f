"""Turns published checkpoints into safetensors files, the same bytes every time.

Pickles are read through allow-lists that can build tensors and containers, nothing else.
"""

from __future__ import annotations

import pickle  # for `_ModuleUnpickler`, which runs no code and builds tensors and containers alone
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.serialization import SourceChangeWarning

from ..errors import ModelFileError
from ..weights import SOURCE_SHA256_KEY, WeightsFile
from .frozen_graph import read_constants

State = dict[str, Tensor]


def convert(file: WeightsFile, source: Path) -> bytes:
    """Convert a published checkpoint.

    Args:
        file: Entry of the table with a conversion.
        source: The published file; its checksum has been verified.

    Returns:
        Bytes of a safetensors file that names the sha256 of the source in its metadata.

    Raises:
        ModelFileError: The file holds anything the conversion does not expect.
    """
    state = _CONVERSIONS[str(file.conversion)](source)
    ordered = {name: state[name].detach().contiguous().clone() for name in sorted(state)}
    return save(ordered, metadata={SOURCE_SHA256_KEY: file.source.sha256})


class _Container:
    """Stands for a network module in a pickle; holds its attributes and has no behaviour."""

    dump_patches = False


class _ModuleUnpickler(pickle.Unpickler):
    """Reads a pickled network as plain containers of tensors; runs no code of the pickle."""

    _allowed = types.MappingProxyType(
        {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "device"): torch.device,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
            ("torch.nn.backends.thnn", "_get_thnn_function_backend"): lambda: None,
        }
    )
    _modules = ("torch.nn.modules.", "torch.nn.parallel.", "models.network_def.")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._allowed:
            return self._allowed[module, name]
        if module.startswith(self._modules):
            return type(name, (_Container,), {})
        raise ModelFileError(
            f"Expected a checkpoint of tensors and network layers, got {module}.{name} in it. "
            "The file is not the published one; delete it and fetch it again."
        )


def _read_facexzoo(source: Path) -> State:
    reader = types.SimpleNamespace(
        Unpickler=_ModuleUnpickler,
        load=lambda stream, **options: _ModuleUnpickler(stream, **options).load(),
        __name__="allow_list",
    )
    with warnings.catch_warnings():
        # The file carries the text of its network's classes, which are not used.
        warnings.simplefilter("ignore", SourceChangeWarning)
        warnings.simplefilter("ignore", UserWarning)
        root = torch.load(source, map_location="cpu", weights_only=False, pickle_module=reader)  # reader runs no code
    state: State = {}
    _collect(root, "", state)
    return {name.removeprefix("module."): value for name, value in state.items()}


def _collect(container: _Container, prefix: str, state: State) -> None:
    attributes = vars(container)
    for kind in ("_parameters", "_buffers"):
        for name, value in attributes.get(kind, {}).items():
            if value is not None:
                state[prefix + name] = value.detach()
    for name, child in attributes.get("_modules", {}).items():
        _collect(child, f"{prefix}{name}.", state)


def _read_state_dict(source: Path) -> State:
    return dict(torch.load(source, map_location="cpu", weights_only=True))  # tensors alone, no code


def _read_frozen_graph(source: Path) -> State:
    """Read FaceNet's constants; module names are the graph's, see InceptionResnetV1."""
    constants = read_constants(source, prefix="InceptionResnetV1/")
    state: State = {}
    for name, value in constants.items():
        if value.ndim == 4:
            layer = name.removesuffix("/weights")
            bias = constants.get(f"{layer}/Conv2D_bn_offset", constants.get(f"{layer}/biases"))
            if bias is None:
                raise ModelFileError(f"Expected a bias for the layer {layer} in {source.name}, got none.")
            key = ("" if "/" in layer else "stem.") + layer.replace("/", ".")
            state[f"{key}.weight"] = torch.from_numpy(value.transpose(3, 2, 0, 1).copy())
            state[f"{key}.bias"] = torch.from_numpy(bias)
    norm = "Bottleneck/BatchNorm/"
    scale = constants[f"{norm}Const"] / np.sqrt(constants[f"{norm}moving_variance"] + np.float32(1e-3))
    state["Bottleneck.weight"] = torch.from_numpy((constants["Bottleneck/weights"] * scale).T.copy())
    state["Bottleneck.bias"] = torch.from_numpy(constants[f"{norm}beta"] - constants[f"{norm}moving_mean"] * scale)
    return state


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of numpy arrays and nothing else."""

    _allowed = types.MappingProxyType(
        {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._allowed:
            return self._allowed[module, name]
        raise ModelFileError(f"Expected a checkpoint of numpy arrays, got {module}.{name} in it.")


def _read_lpips_alexnet(source: Path) -> State:
    with source.open("rb") as stream:
        layers = _ArrayUnpickler(stream).load()
    state: State = {}
    for group, members in layers.items():
        for layer, arrays in members.items():
            position = int(layer.removeprefix("Conv_"))
            name = f"conv{position}" if group == "AlexNet_0" else f"head{int(group.rsplit('_', 1)[1])}"
            state[f"{name}.weight"] = torch.from_numpy(arrays["kernel"].transpose(3, 2, 0, 1).copy())
            if "bias" in arrays:
                state[f"{name}.bias"] = torch.from_numpy(np.array(arrays["bias"]))
    return state


_CONVERSIONS: dict[str, Callable[[Path], State]] = {
    "facexzoo": _read_facexzoo,
    "state_dict": _read_state_dict,
    "frozen_graph": _read_frozen_graph,
    "lpips_alexnet": _read_lpips_alexnet,
}
