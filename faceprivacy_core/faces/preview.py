"""Numbered faces, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..types import Face

MASK_TINT = np.array([255.0, 176.0, 0.0])
BOX_COLOUR = (255, 255, 255)
LABEL_COLOUR = (0, 0, 0)


def draw_numbers(picture: NDArray[np.uint8], faces: Sequence[Face], mask: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw boxes with numbers and tint the mask.

    Args:
        picture: (H, W, 3) uint8 RGB. Not modified.
        faces: Faces in their order; the first is number 0. Those of a clip bear the number of their person.
        mask: (H, W) in [0, 1].

    Returns:
        (H, W, 3) uint8.
    """
    weight = 0.35 * mask[..., None]
    tinted = (picture * (1.0 - weight) + MASK_TINT * weight).round().astype(np.uint8)
    canvas = Image.fromarray(tinted)
    draw = ImageDraw.Draw(canvas)
    line = max(2, round(max(picture.shape[:2]) / 400))
    for place, face in enumerate(faces):
        number = place if face.track is None else face.track
        left, top, right, bottom = face.bbox_xyxy
        draw.rectangle((left, top, right, bottom), outline=BOX_COLOUR, width=line)
        font = ImageFont.load_default(max(14.0, face.height / 5))
        anchor = (max(left, 0.0), max(top, 0.0))
        draw.rectangle(draw.textbbox(anchor, f" {number} ", font=font), fill=BOX_COLOUR)
        draw.text(anchor, f" {number} ", font=font, fill=LABEL_COLOUR)
    return np.asarray(canvas)
