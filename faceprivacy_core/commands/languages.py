"""In which language commands say what was measured."""

from __future__ import annotations

import argparse
from typing import Any

from ..phrases.catalogue import ENGLISH, LANGUAGES, Phrases, load_phrases


def add_language_option(parser: Any) -> None:
    """Add --language to a command that says what was measured."""
    parser.add_argument(
        "--language", choices=LANGUAGES, default=ENGLISH.language,
        help="language of what is said about faces, in lines and pictures; files for programs, errors and progress stay "
        "English (default: %(default)s)",
    )  # fmt: skip


def chosen_phrases(args: argparse.Namespace) -> Phrases:
    """Return the phrases of the chosen language; English for programs."""
    return ENGLISH if getattr(args, "json", False) else load_phrases(args.language)
