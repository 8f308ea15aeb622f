"""Who chooses a setting has no part in figures, in the lists and in the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cloak, splits
from benchmarks.pictures import GENERATED, first_pictures
from benchmarks.splits import SURROGATES, TEST, TEST_IF_PLACED, TEST_SEEDS, TUNING_SEEDS, VALIDATION, Part
from faceprivacy_core.faces.insightface_models import ARCFACE_SPECS
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, RECOGNIZER_NAMES, SPECS

ROOT = Path(__file__).parents[2]
FOLDERS = ("faceprivacy_core", "nodes", "training", "benchmarks")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

CATALOGUE = {"faceprivacy_core/faces/specs.py", "faceprivacy_core/faces/insightface_models.py", "faceprivacy_core/weights.py"}
"""Files that name every recogniser because they describe it."""

MEASURING = {
    "faceprivacy_core/faces/recognizers.py", "faceprivacy_core/commands/report.py", "faceprivacy_core/commands/batch.py",
    "nodes/faces.py", "nodes/_measuring.py", "nodes/evaluate.py",
    "benchmarks/anonymize.py", "benchmarks/builtin_model.py", "benchmarks/cloak.py",
    "benchmarks/diff_privacy.py", "benchmarks/keyed.py", "benchmarks/reproduce.py",
}  # fmt: skip
"""Files that may load recognisers which no method knows: they report."""

CHECKING = {"faceprivacy_core/faces/people_files.py"}
"""Files that compare the names in somebody's file with those of the pack, and load nobody."""

JUDGES = {"TEST", "TEST_IF_PLACED", "DEFAULT_HELD_OUT", "RECOGNIZER_NAMES"}
DEFINING = {"benchmarks/splits.py", "faceprivacy_core/faces/specs.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def literals(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def imported(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {alias.name for node in tree if isinstance(node, ast.ImportFrom) for alias in node.names}


def families(names: tuple[str, ...]) -> set[str]:
    known = {spec.name: spec.family for spec in (*SPECS, *ARCFACE_SPECS.values())}
    return {known[name] for name in names}


def test_every_recogniser_has_one_part_and_those_that_test_are_no_relatives():
    assert SURROGATES == DEFAULT_SURROGATES
    assert sorted((*SURROGATES, *VALIDATION, *TEST)) == sorted(RECOGNIZER_NAMES)
    assert set(DEFAULT_HELD_OUT) == {*VALIDATION, *TEST}
    judges = families((*TEST, *TEST_IF_PLACED))
    assert len(judges) >= 2
    assert not judges & families((*SURROGATES, *VALIDATION))


def test_tuning_and_test_faces_share_none(tmp_path: Path):
    assert not set(TUNING_SEEDS) & set(TEST_SEEDS)
    for seed in (1000, 1063, 1064, 1399, 1400):
        (tmp_path / f"{seed}.jpg").write_bytes(b"")
    parts = [[path.stem for path in splits.generated_faces(tmp_path, part)] for part in Part]
    assert parts == [["1000", "1063"], ["1064", "1399"]]
    people = [f"{number:03}" for number in range(7)]
    tuning, test = (splits.split_people(people[::-1], part) for part in Part)
    assert (tuning, test) == (people[:3], people[3:])


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_sources_name_and_load_the_judges_only_where_they_report(path: Path):
    name = name_of(path)
    if name not in CATALOGUE | DEFINING:
        named = set(literals(path)) & {*TEST, *TEST_IF_PLACED}
        assert not named, f"{name} names {named}; benchmarks/splits.py says who tests"
    if name not in MEASURING | DEFINING | CHECKING:
        loaded = imported(path) & JUDGES
        assert not loaded, f"{name} imports {loaded}; only what reports may, so that no setting is chosen with them"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name == "benchmarks"], ids=name_of)
def test_no_benchmark_lists_generated_faces_itself(path: Path):
    assert "GENERATED.glob" not in path.read_text(encoding="utf-8"), "take first_pictures, which knows the parts"


def test_settings_are_chosen_without_the_judges():
    bench = cloak.Bench(SimpleNamespace(out=None, iterations=None))
    everybody = tuple(SimpleNamespace(name=name) for name in RECOGNIZER_NAMES)
    bench.__dict__["judge"] = cloak.Judge(None, everybody, None)
    bench.__dict__["recognizers"] = everybody
    for task in ("ablation", "sweep"):
        assert task in cloak.CHOOSING
        assert {item.name for item in bench.judge_of(task).recognizers} == {*SURROGATES, *VALIDATION}
    assert bench.judge_of("protect").recognizers == everybody


def test_too_few_pictures_are_an_error_and_never_other_ones(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert first_pictures(tmp_path, 1) == [tmp_path / "a.jpg"]
    with pytest.raises(SystemExit, match="Expected 2 pictures for test"):
        first_pictures(tmp_path, 2)
    with pytest.raises(SystemExit, match="calibrate_recognizers generate"):
        first_pictures(GENERATED, 10_000)
