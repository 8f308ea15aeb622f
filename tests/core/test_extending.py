"""What `docs/extending.md` and `docs/checkpoints.md` say holds: examples run, files and tests are where they are said to be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from faceprivacy_core.keyed.mode_names import RecoveryMode

ROOT = Path(__file__).parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", EXTENDING, flags=re.DOTALL)
TITLES = ["energy", "recogniser", "family", "capability", "keyed mode", "node"]


@pytest.mark.parametrize("example", EXAMPLES, ids=TITLES)
def test_the_example_runs(example: str):
    assert "assert" in example
    code = compile(example, "docs/extending.md", "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__"})  # noqa: S102 - of this repository


def compared(source: str) -> list[str]:
    """Return what a module compares with a keyed mode, or a keyed mode with."""
    comparisons = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    return [text for text in map(ast.unparse, comparisons) if re.search(r"\bmode\b|\bRecoveryMode\b", text)]


def test_nothing_but_a_mode_itself_tells_keyed_modes_apart():
    assert compared("a = face.mode is RecoveryMode.EXACT") == ["face.mode is RecoveryMode.EXACT"]
    assert compared("a = [mode for mode in RecoveryMode if settings.mode in NOISE]") == ["settings.mode in NOISE"]
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("faceprivacy_core/keyed", "faceprivacy_core/commands", "nodes")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "mode_names.py"  # says which are in the noise
    }
    assert {name: found for name, source in sources.items() if (found := compared(source))} == {}
    named = {name for name, source in sources.items() if re.search(r"\bRecoveryMode\.[A-Z]", source)}
    modules = {f"faceprivacy_core/keyed/modes/{mode.value}.py" for mode in RecoveryMode}
    assert named == modules | {"faceprivacy_core/keyed/encrypt.py"}  # its default


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
