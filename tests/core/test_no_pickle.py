"""Nothing in the pack unpickles: a shared file must not run code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("faceprivacy_core", "nodes") for path in (ROOT / folder).rglob("*.py"))
CONVERSION = ROOT / "faceprivacy_core" / "commands" / "conversion.py"
"""Reads published weights, verified by hash, through an unpickler that knows tensors alone."""
PICKLES = {"pickle", "shelve", "marshal", "dill", "joblib"}


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_unpickles(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom) and path != CONVERSION:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {name.split(".")[0] for name in names} & PICKLES
        if isinstance(node, ast.Call) and _called(node) in ("np.load", "numpy.load"):
            assert all(keyword.arg != "allow_pickle" for keyword in node.keywords)
        if isinstance(node, ast.Call) and _called(node) == "torch.load":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            is_restricted = path == CONVERSION and given.get("pickle_module") == "reader"
            assert given.get("weights_only") == "True" or is_restricted
