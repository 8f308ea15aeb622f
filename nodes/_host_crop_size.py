"""A warning for those who give a model of face crops a whole picture."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import nn

logger = logging.getLogger(__name__)


class CropSizeWarning:
    """Says, in the log and on the running node, once a run, when a network is given anything but crops of its size.

    A hook of the network and no wrapper of the MODEL: that one would count as changed, and what depends on a plain model
    (mode image, saved inversions) would refuse it.

    Args:
        cells: Side of the latents of its crops.
        pixels: Side of its crops.
    """

    def __init__(self, cells: int, pixels: int) -> None:
        self.cells = cells
        self.pixels = pixels
        self._told: Hashable = None

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        height, width = args[0].shape[-2:]
        if (height, width) == (self.cells, self.cells):
            return
        running = get_executing_context()
        run = None if running is None else (running.prompt_id, running.node_id)
        if self._told != (run, height, width):
            self._told = (run, height, width)
            self._tell(height, width, None if running is None else running.node_id)

    def _tell(self, height: int, width: int, node_id: str | None) -> None:
        text = (
            f"The built-in face model draws aligned face crops of {self.pixels} x {self.pixels} pixels (latents {self.cells} x "
            f"{self.cells}); these latents are {width} x {height}, and the result will not show whole faces. Put Face Crop "
            "before VAE Encode and Face Paste after VAE Decode, and connect 'size' of the loader to Face Crop."
        )
        logger.warning(text)
        server = getattr(PromptServer, "instance", None)
        if node_id is not None and server is not None:
            server.send_progress_text(text, node_id)
