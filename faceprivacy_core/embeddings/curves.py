"""A picture of how learning goes: the held-out error of every stage."""

from __future__ import annotations

import colorsys

from PIL import Image, ImageDraw
from torch import Tensor

MARGIN_PX = 28


def draw_curves(history: Tensor, width: int = 512, height: int = 288) -> Image.Image:
    """Draw one curve for each stage: held-out error relative to the first, mean over the faces.

    Args:
        history: (checks, K, N) of `learning.LearningState`, at least one check.
        width, height: Of the picture, pixels.

    Returns:
        An RGB picture; stage 0, almost clean, is blue, the last, almost noise, is red.
    """
    curves = (history / history[:1].clamp(min=1e-12)).mean(-1).T.tolist()
    low = min(0.99, *(min(curve) for curve in curves))
    high = max(1.01, *(max(curve) for curve in curves))
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    frame = (MARGIN_PX, MARGIN_PX // 2, width - MARGIN_PX // 2, height - MARGIN_PX)
    pen.rectangle(frame, outline=(160, 160, 160))
    pen.text((2, frame[1]), f"{high:.2f}", fill="black")
    pen.text((2, frame[3] - 10), f"{low:.2f}", fill="black")
    last = max(1, len(curves[0]) - 1)
    for stage, curve in enumerate(curves):
        hue = 0.66 * (1.0 - stage / max(1, len(curves) - 1))
        colour = tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 1.0, 0.85))
        points = [
            (frame[0] + (frame[2] - frame[0]) * i / last, frame[3] - (frame[3] - frame[1]) * (value - low) / (high - low))
            for i, value in enumerate(curve)
        ]
        pen.line(points * 2 if len(points) == 1 else points, fill=colour, width=2)
        pen.text((frame[0] + 20 + 22 * stage, height - 20), str(stage), fill=colour)
    return picture
