"""Fonts for phrases: Pillow's own has no letter beyond those of English."""

from __future__ import annotations

from typing import cast

from PIL import ImageFont

from .catalogue import Phrases


def font_of(phrases: Phrases, size: float) -> ImageFont.FreeTypeFont:
    """Return the font that a language's phrases are drawn with.

    Args:
        phrases: The language.
        size: Pixels.
    """
    if phrases.font is None:
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))  # with a size it is one
    return ImageFont.truetype(str(phrases.font), size)
