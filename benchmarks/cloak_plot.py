"""Curves in a picture, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

LEFT, TOP, RIGHT, BOTTOM = 80, 40, 24, 64
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Okabe and Ito's: told apart with every kind of colour vision."""

GREY = (200, 200, 200)
TICKS = 6
"""At most this many steps between lines of the grid."""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in their order, each with a label; those in `marked` get a ring."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str]
    marked: Sequence[int] = field(default=())


def draw_plot(curves: Sequence[Curve], x_title: str, y_title: str, width: int = 820, height: int = 540) -> Image.Image:
    """Draw up to four curves on axes that hold them, with lines at round numbers."""
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    across, up = (_ticks([point[axis] for curve in curves for point in curve.points]) for axis in (0, 1))
    (left, right), (low, high) = (across[0], across[-1]), (up[0], up[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        part_x, part_y = (x - left) / (right - left), (y - low) / (high - low)
        return LEFT + part_x * (width - LEFT - RIGHT), height - BOTTOM - part_y * (height - TOP - BOTTOM)

    for x in across:
        pen.line((*place(x, low), *place(x, high)), fill=GREY)
        pen.text((place(x, low)[0], height - BOTTOM + 6), f"{x:.4g}", fill="black", font=font, anchor="ma")
    for y in up:
        pen.line((*place(left, y), *place(right, y)), fill=GREY)
        pen.text((LEFT - 10, place(left, y)[1]), f"{y:.4g}", fill="black", font=font, anchor="rm")
    pen.text((width / 2 - 4 * len(x_title), height - 42), x_title, fill="black", font=font)
    pen.text((LEFT, 3), y_title, fill="black", font=font)
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        spots = [place(*point) for point in curve.points]
        pen.line(spots, fill=colour, width=2)
        for index, ((x, y), label) in enumerate(zip(spots, curve.labels, strict=True)):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
            if index in curve.marked:
                pen.ellipse((x - 9, y - 9, x + 9, y + 9), outline=colour, width=3)
            below = number % 2 == 0  # so that labels of curves that meet do not lie on each other
            pen.text((x + 8, y + 4 if below else y - 4), label, fill=colour, font=font, anchor="la" if below else "lb")
        pen.text((LEFT + 190 * number, height - 22), curve.name, fill=colour, font=font)
    return picture


def _ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers, evenly apart, that enclose the values."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power * TICKS >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, max(last, first + 1) + 1)]
