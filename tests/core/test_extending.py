"""What `docs/extending.md` and `docs/checkpoints.md` say holds: examples run, files and tests are where they are said to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", EXTENDING, flags=re.DOTALL)
TITLES = ["energy", "recogniser", "family", "capability", "node"]
MODES = re.compile(r"\bRecoveryMode\.[A-Z]+\b|\bRecoveryMode\(|class RecoveryMode")


@pytest.mark.parametrize("example", EXAMPLES, ids=TITLES)
def test_the_example_runs(example: str):
    assert "assert" in example
    code = compile(example, "docs/extending.md", "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__"})  # noqa: S102 - of this repository


def test_the_files_that_tell_keyed_modes_apart_are_those_that_are_listed():
    part = EXTENDING.partition("files that tell modes apart")[2].partition("## A node")[0]
    listed = set(re.findall(r"`([\w/]+\.py)`", part))
    sources = [path for folder in ("faceprivacy_core", "nodes") for path in (ROOT / folder).rglob("*.py")]
    telling = {str(path.relative_to(ROOT).as_posix()) for path in sources if MODES.search(path.read_text(encoding="utf-8"))}
    assert listed == telling


@pytest.mark.parametrize("text", [EXTENDING, CHECKPOINTS], ids=["extending", "checkpoints"])
def test_every_file_that_is_named_is_there(text: str):
    named = re.findall(r"`((?:faceprivacy_core|nodes|tests|benchmarks|docs)/[\w./]*)`", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_cell_of_the_table_is_a_test_or_a_sentence():
    table = CHECKPOINTS.partition("<!-- methods by family")[2].partition("## Memory")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 8
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for method, *families, names in rows:
        for cell in families:
            assert re.match(r"yes\b|no: \w+|in fp32", cell), f"{method}: {cell}"
        named = re.findall(r"`(test_\w+)`", names)
        assert named, method
        assert [name for name in named if f"def {name}(" not in tests] == [], method
