"""Choosing between speed and memory by what is free, and saying what was chosen."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.sd
import torch
from comfy_execution.utils import get_executing_context
from server import PromptServer

logger = logging.getLogger(__name__)

MEMORY = ("normal", "low", "auto")
GRADIENT_FACTOR = 3.0
"""Of what the host counts for decoding, for decoding with a gradient. For the VAE of SD 1.x it is 2.7 at 256 and at 512 pixels,
counted on tensors without contents."""
SPARE = 0.8
GIB = 2.0**30


def chosen_memory(memory: str, vae: comfy.sd.VAE, size: int, count: int) -> str:
    """Return `normal` or `low`; `auto` takes the one that fits and says so in the log and on the running node.

    Args:
        memory: Of the widget.
        vae: Whose decoder is differentiated.
        size: Side of the crops, pixels.
        count: Crops that are decoded together.
    """
    if memory != "auto":
        return memory
    cells = size // vae.downscale_ratio
    needed = GRADIENT_FACTOR * count * vae.memory_used_decode((1, vae.latent_channels, cells, cells), torch.float32)
    free = comfy.model_management.get_free_memory(vae.device)
    chosen = "normal" if needed <= SPARE * free else "low"
    text = f"memory: {chosen}. The gradient of {count} crops takes about {needed / GIB:.1f} GiB; {free / GIB:.1f} are free."
    logger.info(text)
    server, running = getattr(PromptServer, "instance", None), get_executing_context()
    if server is not None and running is not None:
        server.send_progress_text(text, running.node_id)
    return chosen
