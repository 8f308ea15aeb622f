"""Pictures to look at: grids of samples, curves of losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .loop import read_log

_COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))


def save_grid(path: Path, rows: Sequence[Tensor]) -> None:
    """Write rows of pictures, each (B, 3, S, S) in [-1, 1], as one picture without gaps."""
    lines = [torch.cat(list(row.detach().float().cpu()), dim=2) for row in rows]
    grid = torch.cat(lines, dim=1).clamp(-1, 1)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


def save_curves(log: Path, path: Path, size: tuple[int, int] = (960, 480)) -> None:
    """Draw every figure of a log against the step, each in its own range, smoothed over 2 %."""
    lines = read_log(log)
    names = [name for name in (lines[-1] if lines else {}) if name not in ("step", "images_per_s")]
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    width, height = size[0] - 20, size[1] - 20 - 14 * len(names)
    for i, name in enumerate(names):
        colour = _COLOURS[i % len(_COLOURS)]
        points = np.array([(line["step"], line[name]) for line in lines if name in line and np.isfinite(line[name])])
        if len(points) < 2:
            continue
        window = max(1, len(points) // 50)
        smooth = np.convolve(points[:, 1], np.ones(window) / window, mode="valid")
        steps = points[window - 1 :, 0]
        low, high = float(smooth.min()), float(smooth.max())
        x = 10 + width * (steps - points[0, 0]) / max(1.0, points[-1, 0] - points[0, 0])
        y = 10 + height * (1 - (smooth - low) / max(1e-12, high - low))
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=colour, width=2)
        draw.text((10, size[1] - 14 * (len(names) - i)), f"{name}: {low:.4g} to {high:.4g}, last {smooth[-1]:.4g}", fill=colour)
    canvas.save(path)
