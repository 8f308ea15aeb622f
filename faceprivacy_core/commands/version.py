"""Which version this is."""

from __future__ import annotations

import argparse
import re
from typing import Any

from ..model_folders import PACK
from .console import say

DISTRIBUTION = "face-privacy-diffusion"


def find_version() -> str:
    """Return the version of this checkout, or of the installed package."""
    project = PACK / "pyproject.toml"
    if project.is_file():
        stated = re.search(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)
        if stated:
            return stated.group(1)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


class ShowVersion(argparse.Action):
    """The option --version: looked up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and stop")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        say(f"faceprivacy {find_version()}")
        parser.exit()
