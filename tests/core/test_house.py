"""The house of core and nodes: no circles, nothing private across modules, short nodes, and nothing that nobody calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("faceprivacy_core", "nodes")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
LONGEST_EXECUTE = 40
LONGER = {"nodes.adversarial": 62}
"""Nodes from before this law: their settings belong into a node of options. None may be added, none may grow."""


def _imports(name: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of everything a module imports from core or nodes, but for what only type checkers see."""
    tree, parts = TREES[name], name.split(".")
    package = parts if FILES[name].name == "__init__.py" else parts[:-1]
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in hidden:
            base = package[: len(package) - node.level + 1]
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".").removeprefix("..")
            for alias in node.names:
                yield module, alias.name


def _targets(name: str) -> set[str]:
    found = set()
    for module, imported in _imports(name):
        whole = f"{module}.{imported}"
        found.add(whole if whole in FILES else module)
    return found & set(FILES) - {name}


def circles(graph: Mapping[str, set[str]]) -> set[str]:
    """Return the nodes of a graph from which a walk leads back to them."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = list(graph.get(start, ()))
        while ahead:
            here = ahead.pop()
            if here not in seen:
                seen.add(here)
                ahead += graph.get(here, ())
        return seen

    return {node for node in graph if node in reached(node)}


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {"b", "c"}
    assert circles({"a": {"b"}, "b": set()}) == set()


def test_no_module_and_no_room_depends_on_itself_by_way_of_others():
    modules = {name: _targets(name) for name in FILES}
    assert any(modules.values())
    assert circles(modules) == set()

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    rooms: dict[str, set[str]] = {}
    for name, targets in modules.items():
        rooms.setdefault(room(name), set()).update({room(target) for target in targets} - {room(name)})
    assert circles(rooms) == set()


@pytest.mark.parametrize("name", FILES)
def test_nothing_private_is_imported(name: str):
    private = [f"{module}.{imported}" for module, imported in _imports(name) if imported.startswith("_")]
    modules = [one for one in private if one in FILES]  # such as nodes._host: private to the pack
    assert sorted(private) == sorted(modules)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("nodes")])
def test_a_node_converts_calls_the_core_and_converts_back(name: str):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef) and node.name == "execute":
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGER.get(name, LONGEST_EXECUTE), f"execute of {name} has {length} lines"


def _titles() -> list[str]:
    """Return the titles of the nodes, without the pack's name."""
    names = [
        keyword.value.value
        for name, tree in TREES.items()
        if name.startswith("nodes")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "display_name" and isinstance(keyword.value, ast.Constant)
    ]
    return [re.sub(r" \(Face Privacy\)$|^Face (?=Privacy )|^Privacy: |, .*", "", name) for name in names]


def _said(tree: ast.Module) -> Iterator[str]:
    """Yield every text of a module but docstrings."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


def test_the_core_speaks_no_language_of_the_host():
    """It says what is wrong; where in a graph that is, the node knows. Only the audit reads graphs."""
    titles = _titles()
    assert len(titles) > 15
    host = re.compile("|".join([r"\b(?:Connect|Disconnect|MODEL|CONDITIONING|socket|widget)\b", *map(re.escape, titles)]))
    told = {
        name: found
        for name, tree in TREES.items()
        if name.startswith("faceprivacy_core") and ".audit" not in name and ".commands" not in name
        if (found := [text for text in _said(tree) if host.search(text)])
    }
    assert told == {}


def test_every_method_takes_the_one_contract():
    """Larger contracts than a `LatentModel` do not come back."""
    gone = {"Purifier", "BuiltinKeyedModel", "HostCondition", "builtin_purifier", "cloak_with"}
    defined = {
        node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    assert not gone & defined
    named = {
        node.id for name, tree in TREES.items() if _is_method(name) for node in ast.walk(tree) if isinstance(node, ast.Name)
    }
    assert "LatentModel" in named
    assert "DiffusersDenoiser" not in named


def _is_method(name: str) -> bool:
    rooms = ("adversarial", "embeddings", "guidance", "keyed", "anonymize", "hide", "cloak", "recover", "regenerate", "protect")
    return name.startswith("faceprivacy_core.") and name.split(".")[1] in rooms
