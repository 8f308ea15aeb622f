"""The fixed phrases of reports: the code holds them in English, a file for each other language by the English text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..errors import InputError

LANGUAGES = ("en", "de", "fr", "es", "ja", "zh")
"""What reports can be written in; the first is what they are written in unless somebody chooses."""
FOLDER = Path(__file__).parent
FONTS = {language: FOLDER / f"NotoSans{'SC' if language == 'zh' else 'JP'}-Report.ttf" for language in LANGUAGES[1:]}
"""Fonts that have every letter of a language's phrases and of English; English itself needs none."""


@dataclass(frozen=True)
class Phrases:
    """Says phrases in one language.

    Attributes:
        language: One of `LANGUAGES`.
        texts: What stands for every English phrase; one that is not there stays English.
        font: A font with all the letters; None where any font has them.
    """

    language: str
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    font: Path | None = None

    def __call__(self, text: str, **values: object) -> str:
        """Return a phrase with its values.

        Args:
            text: The English phrase, with the names of its values in braces, formatted as `str.format` does.
            **values: What stands for the names.
        """
        return self.texts.get(text, text).format(**values)


ENGLISH = Phrases(LANGUAGES[0])


@cache
def load_phrases(language: str) -> Phrases:
    """Return the phrases of a language, one of `LANGUAGES`.

    Raises:
        InputError: There is no such language.
    """
    if language not in LANGUAGES:
        raise InputError(f"Expected a language among {', '.join(LANGUAGES)}, got {language!r}. Choose one of these.")
    if language == ENGLISH.language:
        return ENGLISH
    texts = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return Phrases(language, texts, FONTS[language])
