"""Networks of ONNX files as torch modules."""

from __future__ import annotations

from pathlib import Path

from torch import nn


def load_onnx(path: Path) -> nn.Module:
    """Convert a verified ONNX file to a torch module that gradients pass through."""
    import onnx  # with onnx2torch seconds to load, and many uses of this package need neither
    import onnx2torch

    return onnx2torch.convert(onnx.load(str(path)))
