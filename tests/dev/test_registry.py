"""What the Comfy registry asks for is there, or stands in CONTRIBUTING.md as what the owner alone can fill in."""

from __future__ import annotations

import re

from devtools.paths import ROOT

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ASKED = ("PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui")


def _publishing() -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split("## Publishing\n")[1].split("\n## ")[0]


def test_every_field_of_the_registry_is_filled_or_named_as_the_owners() -> None:
    (table,) = re.findall(r"^\[tool\.comfy\]\n(.*?)(?=^\[|\Z)", PROJECT, re.MULTILINE | re.DOTALL)
    given = dict(re.findall(r'^([\w-]+) = "(.*)"$', table, re.MULTILINE))
    assert set(given) == set(ASKED)
    empty = {name for name, value in given.items() if not value}
    if "Repository =" not in PROJECT:
        empty.add("Repository")
    assert {name for name in (*ASKED, "Repository") if f"`{name}`" in _publishing()} == empty


def test_pictures_that_the_owner_links_are_here() -> None:
    named = re.findall(r"`(docs/[\w/.]+)`", _publishing())
    assert len(named) == 2
    assert all((ROOT / path).is_file() for path in named)
