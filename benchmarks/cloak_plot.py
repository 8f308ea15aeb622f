"""Curves in a picture, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

LEFT, TOP, RIGHT, BOTTOM = 80, 24, 24, 64
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Okabe and Ito's: told apart with every kind of colour vision."""

GREY = (200, 200, 200)
TICKS = 5


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in their order, each with a label; those in `marked` get a ring."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str]
    marked: Sequence[int] = field(default=())


def draw_plot(curves: Sequence[Curve], x_title: str, y_title: str, width: int = 820, height: int = 540) -> Image.Image:
    """Draw up to four curves on axes that just hold them."""
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    (left, right), (low, high) = (_limits([point[axis] for curve in curves for point in curve.points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - left) / (right - left), (y - low) / (high - low)
        return LEFT + across * (width - LEFT - RIGHT), height - BOTTOM - up * (height - TOP - BOTTOM)

    for tick in range(TICKS + 1):
        x, y = left + (right - left) * tick / TICKS, low + (high - low) * tick / TICKS
        pen.line((*place(x, low), *place(x, high)), fill=GREY)
        pen.line((*place(left, y), *place(right, y)), fill=GREY)
        pen.text((place(x, low)[0] - 16, height - BOTTOM + 6), f"{x:.4g}", fill="black", font=font)
        pen.text((34, place(left, y)[1] - 8), f"{y:.4g}", fill="black", font=font)
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
            pen.text((x + 8, y + 4), label, fill=colour, font=font)
        pen.text((LEFT + 190 * number, height - 22), curve.name, fill=colour, font=font)
    return picture


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or max(0.05 * abs(high), 0.01)
    return low - room, high + room
