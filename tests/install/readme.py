"""README's own words on how to install and begin, read out of it."""

from __future__ import annotations

import re
import shlex

from devtools.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return the text below a heading of the second order."""
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return found


def commands(heading: str) -> list[list[str]]:
    """Return the command lines of a section's first block, without their comments."""
    block = re.search(r"^```\n(.*?)^```", section(heading), re.MULTILINE | re.DOTALL)
    assert block is not None, heading
    return [shlex.split(line, comments=True) for line in block.group(1).splitlines()]


def first_template() -> tuple[str, str]:
    """Return the pack and the template that the first picture is made with."""
    (found,) = re.findall(r"^1\. \*Workflow > Browse Templates > (\S+) > ([\w ]+)\*", section("First picture"), re.MULTILINE)
    return found
