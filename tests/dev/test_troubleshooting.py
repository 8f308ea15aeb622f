"""The texts that the page on troubleshooting has for headings are those of the program."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SYMPTOMS = {"Templates open red", "It is slow"}
"""Headings that describe what is seen where no text is shown."""

HEADINGS = [heading for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE) if heading not in SYMPTOMS]


def _texts() -> list[str]:
    """Return every text in the sources; neighbours and parts of one f-string count as written."""
    found = []
    for path in [*(ROOT / "nodes").glob("*.py"), *(ROOT / "faceprivacy_core").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_a_text_of_the_program(heading: str) -> None:
    texts = _texts()
    parts = [part.strip() for part in heading.split("...") if part.strip()]
    assert parts
    assert [part for part in parts if not any(part in text for text in texts)] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("https://")]
    for target in targets:
        name, _, anchor = target.partition("#")
        path = page.parent / unquote(name) if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target
