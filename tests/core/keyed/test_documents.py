"""The threat model names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
FOLDERS = (ROOT, ROOT / "tests" / "core" / "keyed", ROOT / "tests" / "core" / "inversions")
"""Paths are below one of these: the document says which."""


def files_named(text: str) -> dict[str, Path]:
    names = set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)", text))
    return {name: path for name in names for folder in FOLDERS if (path := folder / name).is_file()}


def test_every_file_and_every_test_that_is_named_is_there():
    found = files_named(TEXT)
    named = set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)", TEXT))
    assert len(named) > 10
    assert named == set(found)
    sources = "\n".join(path.read_text(encoding="utf-8") for path in found.values())
    tests = set(re.findall(r"(?:::|`)(test_\w+)`", TEXT))
    assert len(tests) > 15
    assert {name for name in tests if f"def {name}(" not in sources} == set()


def test_every_line_of_the_table_of_attackers_names_what_shows_it():
    table = TEXT.partition("## Who attacks")[2].partition("## Mode `image`")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| who ")]
    assert len(lines) > 15
    assert [line for line in lines if "test_" not in line.split("|")[-2]] == []
