"""Figures of people come in parts: from the front, growing, published, with the tables after every step."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import cloak, diff_privacy, keyed, keyed_links, people, tables

PROGRAMS = (keyed, cloak, diff_privacy, keyed_links)


def number_of(command: Sequence[str]) -> int:
    return int(command[max(command.index(name) for name in ("--count", "--image-count") if name in command) + 1])


def test_parts_grow_from_the_front_and_slow_ways_see_fewer():
    planned = list(people.commands(Path("pairs"), Path("out"), [24, 4]))
    assert len(planned) == 2 * len(people.steps())
    assert [number_of(command) for _, command in planned] == [4, 2, 4, 2, 2, 2, 24, 8, 24, 8, 12, 8]
    assert all(command[-1] == "--publish" for _, command in planned)
    assert {step.run.__module__ for step, _ in planned} == {program.__name__ for program in PROGRAMS}


def test_every_program_takes_its_arguments(monkeypatch: pytest.MonkeyPatch):
    read, taken = argparse.ArgumentParser.parse_args, []

    def stop_after_reading(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
        taken.append(read(parser, arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop_after_reading)
    for step, command in people.commands(Path("pairs"), Path("out"), [4]):
        with pytest.raises(KeyboardInterrupt):
            step.run(command)
    assert all(options.pairs == Path("pairs") and options.publish for options in taken)
    assert len({options.out for options in taken}) == len(PROGRAMS)


def test_a_part_has_no_more_people_than_there_are_and_tables_follow_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for person in range(6):
        for photo in range(2):
            (tmp_path / f"{person:03}_{photo}.jpg").write_bytes(b"")
    done = []
    steps = (people.Step("one", lambda command: done.append(number_of(command)), ()),)
    monkeypatch.setattr(people, "steps", lambda: steps)
    monkeypatch.setattr(tables, "main", lambda arguments: done.append("tables"))
    people.main(["--pairs", str(tmp_path), "--parts", "2", "75", "--out", str(tmp_path / "out")])
    assert done == [2, "tables", 3, "tables"]
