"""How many crops fit into memory at a time: an estimate by the shapes of the networks, and a choice by what is free."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from .diffusion.backends.checkpoint import Checkpoint
from .errors import InputError

SPARE = 0.8
"""Part of the free memory that is used; the rest is for fragments and for others."""
MOST = 8
GIB = 2.0**30


def weight_bytes(*networks: nn.Module) -> int:
    """Return the bytes of the weights of networks."""
    return sum(weight.numel() * weight.element_size() for network in networks for weight in network.state_dict().values())


def drawing_bytes(model: Checkpoint) -> int:
    """Estimate the bytes that one crop takes while it is drawn, decoded or differentiated through the decoder.

    Counted are the tensors that are alive at the widest place. Without a gradient that is a few maps of the decoder at full
    size. With one the decoder, checkpointed block by block, keeps the input of every block and, of one block at a time, all
    that its layers keep.
    """
    config = model.vae.config
    widths, blocks = config.block_out_channels, config.layers_per_block + 1
    side = model.resolution
    kept = sum(width * blocks * (side >> level) ** 2 for level, width in enumerate(widths))
    inside = 8 * max(width * (side >> level) ** 2 for level, width in enumerate((*widths[1:], widths[-1])))
    return 4 * (kept + inside) + attention_bytes(model)


def attention_bytes(model: Checkpoint) -> int:
    """Estimate the widest maps of the UNet for one crop, without a gradient; attention is computed without its matrix."""
    config = model.denoiser.unet.config
    cells = (model.resolution // model.factor) ** 2
    size = 2 if model.denoiser.unet.dtype in (torch.float16, torch.bfloat16) else 4
    return 16 * size * config.block_out_channels[0] * cells


def peak_bytes(model: Checkpoint, at_once: int) -> int:
    """Estimate the bytes of weights and of `at_once` crops while faces are anonymised with guidance."""
    networks = (model.denoiser.unet, model.vae, *(encoder.network for encoder in model.words.encoders.values()))
    return weight_bytes(*networks) + at_once * drawing_bytes(model)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8 * 2**30


def choose_at_once(model: Checkpoint, asked: int | None = None) -> tuple[Checkpoint, str]:
    """Choose how many crops a loaded model takes at a time.

    Args:
        model: Its weights are in memory already.
        asked: By the user; None chooses by the free memory.

    Returns:
        The model, and what was chosen, in words.

    Raises:
        InputError: Fewer than one was asked for.
    """
    if asked is not None:
        if asked < 1:
            raise InputError(f"Expected at least one crop at a time, got {asked}.")
        return replace(model, at_once=asked), f"{asked} at a time, as asked for"
    free, each = free_bytes(model.device), drawing_bytes(model)
    count = max(1, min(MOST, int(SPARE * free / each)))
    return replace(model, at_once=count), f"{count} at a time ({free / GIB:.1f} GiB free, {each / GIB:.1f} GiB each)"
