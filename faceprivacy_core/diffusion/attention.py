"""Self-attention maps of a UNet, recorded while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import UnsupportedModelError


class Recording(Protocol):
    """What a recorder yields while its context is open."""

    def clear(self) -> None:
        """Forget what was recorded."""
        ...

    def take(self) -> tuple[Tensor, ...]:
        """Return the maps since the last `clear` or `take`, in the order of the layers, and forget them.

        Each is (B, heads, N, N), at least float32, with rows that sum to 1; gradients pass.

        Raises:
            UnsupportedModelError: Nothing was recorded.
        """
        ...


class Maps:
    """A `Recording` that is filled with `add`; for recorders of any program."""

    def __init__(self) -> None:
        self._maps: list[Tensor] = []

    def add(self, queries: Tensor, keys: Tensor, scale: float) -> None:
        """Record softmax(scale Q K^T) of queries and keys (B, heads, N, d), computed in fp32 or better."""
        dtype = torch.promote_types(queries.dtype, torch.float32)
        with torch.autocast(queries.device.type, enabled=False):
            logits = scale * (queries.to(dtype) @ keys.to(dtype).transpose(-1, -2))
            self._maps.append(logits.softmax(dim=-1))

    def clear(self) -> None:
        self._maps = []

    def take(self) -> tuple[Tensor, ...]:
        if not self._maps:
            raise UnsupportedModelError(
                "Expected a model whose self-attention can be recorded, got one that recorded no map. "
                "Use a UNet (SD1.x, SD2.x, SDXL, built-in), or set the structure weight to 0."
            )
        maps, self._maps = tuple(self._maps), []
        return maps


@contextmanager
def record_self_attention(unet: nn.Module) -> Iterator[Recording]:
    """Record the maps of all self-attention layers of a diffusers UNet.

    The layers go on computing their output as before; the maps are computed beside it, so the
    output keeps every bit.

    Args:
        unet: A model of diffusers; its self-attention layers are called `attn1`.

    Yields:
        The recording.

    Raises:
        UnsupportedModelError: The model has no such layer.

    Laws: the original processors are back afterwards, also after an exception.
    """
    named = unet.named_modules()
    layers = [module for name, module in named if name.rpartition(".")[2] == "attn1" and hasattr(module, "set_processor")]
    if not layers:
        raise UnsupportedModelError(
            f"Expected a UNet of diffusers with self-attention layers named attn1, found none in {type(unet).__name__}. "
            "Set the structure weight to 0 to do without."
        )
    maps = Maps()
    with ExitStack() as restore:
        for layer in layers:
            restore.callback(layer.set_processor, layer.processor)
            layer.set_processor(_RecordingProcessor(layer.processor, maps))
        yield maps


class _RecordingProcessor:
    """Leaves the work to the original processor and notes the map."""

    def __init__(self, original: Any, maps: Maps) -> None:
        self.original, self.maps = original, maps

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        if encoder_hidden_states is None:  # otherwise this layer looks at the condition
            tokens = hidden_states if hidden_states.ndim == 3 else hidden_states.flatten(2).transpose(1, 2)
            self.maps.add(*_queries_and_keys(attn, tokens), attn.scale)
        return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)


def _queries_and_keys(attn: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Project tokens (B, N, D) as the layer does, each to (B, heads, N, d)."""
    if attn.group_norm is not None:
        tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
    queries, keys = (_split_heads(project(tokens), attn.heads) for project in (attn.to_q, attn.to_k))
    queries = queries if attn.norm_q is None else attn.norm_q(queries)
    keys = keys if attn.norm_k is None else attn.norm_k(keys)
    return queries, keys


def _split_heads(values: Tensor, heads: int) -> Tensor:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)
