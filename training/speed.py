"""How fast a stage trains, against what the device could do."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from .loop import Stage

WARM_UP_STEPS = 5


def measure_speed(stage: Stage, steps: int, peak_tflops: float | None) -> dict[str, float]:
    """Time steps of a stage; its weights are changed, and thrown away by the caller.

    Args:
        stage: A stage made without compiling counts the same operations as a compiled one.
        steps: Steps to time, after a few that are not.
        peak_tflops: Of the device in the precision used, measured by a large matrix product;
            None leaves the last figure out.

    Returns:
        images_per_s, gflop_per_image (forward and backward), tflops, share_of_peak.
    """
    for step in range(WARM_UP_STEPS):
        stage.train_step(step)
    counter = FlopCounterMode(display=False)
    with counter, torch.compiler.set_stance("force_eager"):
        stage.train_step(WARM_UP_STEPS)
    stage.train_step(WARM_UP_STEPS + 1)
    _wait()
    started = time.perf_counter()
    for step in range(steps):
        stage.train_step(WARM_UP_STEPS + 2 + step)
    _wait()
    seconds = (time.perf_counter() - started) / steps
    flop = counter.get_total_flops()
    figures = {
        "images_per_s": stage.batch / seconds,
        "gflop_per_image": flop / stage.batch / 1e9,
        "tflops": flop / seconds / 1e12,
    }
    if peak_tflops is not None:
        figures["share_of_peak"] = figures["tflops"] / peak_tflops
    return figures


def matrix_peak(device: torch.device, dtype: torch.dtype, side: int = 8192, repeats: int = 10) -> float:
    """Measure the rate of a large matrix product, in TFLOP/s."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    _wait()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    _wait()
    return 2 * side**3 * repeats / (time.perf_counter() - started) / 1e12


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
