"""Where the commands compute."""

from __future__ import annotations

from typing import Any

AUTO = "auto"


def add_device_option(parser: Any) -> None:
    """Add --device to a command."""
    parser.add_argument(
        "--device", default=AUTO, help="cpu, cuda, mps or another of torch's; auto takes an accelerator where there is one"
    )


def best_device() -> str:
    """Return the device torch computes fastest on: an accelerator where there is one, else the processor."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True) if hasattr(torch, "accelerator") else None
    if found is not None:
        return str(found)
    return "cuda" if torch.cuda.is_available() else "cpu"
