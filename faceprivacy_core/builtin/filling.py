"""Networks that a file's header describes, filled with its weights; nothing is built that the file does not bear out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelFileError

DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, RuntimeError, TypeError, ValueError)
"""What JSON, torch and diffusers raise for a header that says something else."""

SPARE = 200
"""Tensors that are made on the way and are no weights."""

M = TypeVar("M", bound=nn.Module)


class _Outline(TorchFunctionMode):
    """Lets networks be described without memory and values, and no larger ones than there are weights for."""

    def __init__(self, weights: int) -> None:
        super().__init__()
        self._left = 2 * weights + SPARE

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = getattr(function, "__name__", ""), kwargs or {}
        if name.endswith("_") and not name.endswith("__"):  # sets values in place
            return args[0] if args else options["tensor"]
        if name in ("empty", "zeros", "ones"):
            self._left -= 1
            if self._left < 0:
                raise ValueError("it has more layers than there are weights")
        return function(*args, **options)


def fill(make: Callable[[], M], state: Mapping[str, Tensor], part: str) -> M:
    """Make a network and give it weights, which it shares with `state`; frozen, in evaluation mode.

    Args:
        make: Makes the network that a header describes.
        state: Its weights, float32.
        part: What to call it in an error.

    Raises:
        ModelFileError: No network can be made, or the weights are those of another; no memory was taken for it.
    """
    try:
        with torch.inference_mode(False), torch.device("meta"), _Outline(len(state)):
            module = make()
    except DAMAGE as error:
        raise ModelFileError(f"Expected a header from which the {part} can be built, got another: {error}") from error
    try:
        with torch.inference_mode(False):
            module.load_state_dict(state, strict=True, assign=True)
            if any(buffer.is_meta for buffer in module.buffers()):  # not among the weights of the file
                module = make()
                module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n\t")[1:2])
        raise ModelFileError(f"The {part} weights do not fit the file's own header: {first[:300] or error}") from error
    return module.eval().requires_grad_(False)
