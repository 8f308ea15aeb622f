"""Imports go downward, and nothing of the host reaches the core."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "faceprivacy_core"
LAYERS = {
    "errors": 0, "terminal": 0, "freed": 0, "model_folders": 1, "missing_packages": 1, "types": 1, "phrases": 1,
    "protocols": 2, "rng": 2, "align": 2, "weights": 2, "fingerprints": 2, "pixels": 2, "files": 2, "picture_files": 2,
    "masks": 3, "images": 3, "texture": 3, "clean_files": 3, "blending": 4, "obscure": 4, "small_faces": 4, "faces": 4,
    "ovals": 2, "no_face": 2, "outlines": 4, "diffusion": 4,
    "builtin": 5, "embeddings": 5, "guidance": 5, "adversarial": 5, "metrics": 6, "keyed": 6, "donors": 6, "candidates": 6,
    "strands": 5, "gentle_push": 7,
    "memory": 6, "tracks": 6, "regenerate": 7, "auditions": 7, "anonymize": 7, "protect": 7, "cloak": 7, "hide": 7, "audit": 7,
    "inversions": 7, "recover": 7, "clips": 8, "video": 3, "commands": 9, "__main__": 10, "__init__": 10,
}  # fmt: skip
METHODS = {"embeddings", "guidance", "adversarial", "keyed"}
FORBIDDEN = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server", "nodes", "execution"}


def room(path: Path) -> str:
    """Return the module or folder directly below the core's root."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Return imported modules; relative ones as `.room` of the core."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            folder = path.parent
            for _ in range(node.level - 1):
                folder = folder.parent
            base = [*folder.relative_to(CORE).parts, *(node.module or "").split(".")]
            names = [part for part in base if part] or [alias.name for alias in node.names]
            found += ["." + names[0]]
    return found


FILES = sorted(CORE.rglob("*.py"))


def test_the_core_has_modules_and_every_one_has_a_layer():
    assert len(FILES) > 20
    assert {room(path) for path in FILES} <= set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path: Path):
    here = room(path)
    for name in imports(path):
        if not name.startswith("."):
            assert name.split(".")[0] not in FORBIDDEN, f"{path.name} imports {name}, which belongs to the host"
            continue
        there = name[1:]
        assert there == here or LAYERS[there] <= LAYERS[here], f"{here} imports {there}, which lies above it"
        assert there == here or not {here, there} <= METHODS, f"{here} imports {there}; methods do not import each other"
