"""A picture of curves with named axes: how learning and attacks go."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LEFT, TOP, RIGHT, BOTTOM = 44, 26, 14, 58
"""Room around the frame, pixels: numbers and name of the values, and below numbers, name of the steps and names of curves."""
GREY, PALE = (110, 110, 110), (228, 228, 228)
WANTED_TICKS = 6


@dataclass(frozen=True)
class Axes:
    """What a picture of curves says of itself.

    Attributes:
        steps: What is counted from left to right.
        values: What is shown upward.
        curves: Name of every curve; None numbers them.
    """

    steps: str
    values: str
    curves: Sequence[str] | None = None


def draw_curves(history: Tensor, axes: Axes, width: int = 512, height: int = 288) -> Image.Image:
    """Draw curves relative to their first value, mean over the faces.

    Args:
        history: (steps, K, N) of K curves and N faces, at least one step.
        axes: Names of both axes and of the curves.
        width, height: Of the picture, pixels.

    Returns:
        An RGB picture; the first curve is blue, the last red. Grey lines lie at round values, with their numbers.
    """
    curves = (history / history[:1].clamp(min=1e-12)).mean(-1).T.tolist()
    low = min(0.99, *(min(curve) for curve in curves))
    high = max(1.01, *(max(curve) for curve in curves))
    last = max(1, len(curves[0]) - 1)
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    frame = LEFT, TOP, width - RIGHT, height - BOTTOM

    def place(step: float, value: float) -> tuple[float, float]:
        across, up = step / last, (value - low) / (high - low)
        return frame[0] + (frame[2] - frame[0]) * across, frame[3] - (frame[3] - frame[1]) * up

    for value in round_values(low, high):
        _, y = place(0, value)
        pen.line((frame[0], y, frame[2], y), fill=PALE)
        pen.text((frame[0] - 4, y), f"{value:g}", fill=GREY, font=font, anchor="rm")
    for step in sorted({round(value) for value in round_values(0, last)}):
        x, _ = place(step, low)
        pen.line((x, frame[3], x, frame[3] + 4), fill=GREY)
        pen.text((x, frame[3] + 5), str(step), fill=GREY, font=font, anchor="ma")
    pen.rectangle(frame, outline=GREY)
    pen.text((2, 5), axes.values, fill="black", font=font)
    pen.text((frame[2], frame[3] + 18), axes.steps, fill="black", font=font, anchor="ra")
    names = axes.curves or [str(number) for number in range(len(curves))]
    at = float(LEFT)
    for number, (curve, name) in enumerate(zip(curves, names, strict=True)):
        hue = 0.66 * (1.0 - number / max(1, len(curves) - 1))
        colour = tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue, 1.0, 0.85))
        points = [place(step, value) for step, value in enumerate(curve)]
        pen.line(points * 2 if len(points) == 1 else points, fill=colour, width=2)
        pen.text((at, height - 20), name, fill=colour, font=font)
        at += font.getlength(name) + 12
    return picture


def round_values(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high`, about six of them: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / WANTED_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 9) for number in range(first, last + 1)]
