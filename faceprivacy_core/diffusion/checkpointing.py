"""Gradients through a decoder with less memory: its blocks are computed again when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import UnsupportedModelError

Decode = Callable[[Tensor], Tensor]
"""Latents (B, C, h, w) to images (B, 3, S, S), every item by itself."""
MIN_LAYERS = 2
"""A block has at least this many layers with weights; with fewer, nothing is saved."""


def checkpointed_decode(decode: Decode, network: nn.Module) -> Decode:
    """Let a decoder keep only the inputs of its blocks for the gradient.

    Args:
        decode: Latents to images through `network`.
        network: See `checkpointed_blocks`; changed only while `decode` runs.

    Raises:
        UnsupportedModelError: The network has no block.
    """
    find_blocks(network)

    def decode_checkpointed(latents: Tensor) -> Tensor:
        with checkpointed_blocks(network):
            return decode(latents)

    return decode_checkpointed


@contextmanager
def checkpointed_blocks(network: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
    """Run every block of a network under `torch.utils.checkpoint` while the context is open.

    The gradient itself may be taken after the context has closed. Works on networks without
    dropout or other randomness, such as frozen decoders.

    Args:
        network: A decoder, or an autoencoder that holds one: the built-in one, AutoencoderKL
            of diffusers or of the host, TAESD.

    Yields:
        The blocks.

    Raises:
        UnsupportedModelError: The network has no block.

    Laws: same images and gradient; less peak memory; the network is as before after the
        context, also after an exception.
    """
    blocks = find_blocks(network)
    with ExitStack() as restore:
        for block in blocks:
            before = block.__dict__.get("forward")
            restore.callback(_restore_forward, block, before)
            block.forward = _checkpointed(block.forward)
        yield blocks


def find_blocks(network: nn.Module) -> tuple[nn.Module, ...]:
    """Return the innermost modules that hold at least two layers with weights.

    In the decoders of latent diffusion these are the residual blocks and the attention blocks.

    Raises:
        UnsupportedModelError: There is none.
    """
    blocks = tuple(_blocks_of(network))
    if not blocks:
        raise UnsupportedModelError(
            f"Expected a decoder with blocks of at least {MIN_LAYERS} layers, found none in {type(network).__name__}. "
            "Use it without checkpointing (memory: normal)."
        )
    return blocks


def _blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    inner = [block for child in module.children() for block in _blocks_of(child)]
    layers = sum(_is_layer(child) for child in module.children())
    if inner or isinstance(module, nn.ModuleList) or layers < MIN_LAYERS:
        yield from inner
    else:
        yield module


def _is_layer(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim > 1


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


def _restore_forward(block: nn.Module, before: Callable[..., Any] | None) -> None:
    if before is None:
        del block.forward
    else:
        block.forward = before
