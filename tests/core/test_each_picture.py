"""A run over files goes on after every failure, says what became of each file, and its status says it, too."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

import pytest

from faceprivacy_core.commands.console import say
from faceprivacy_core.commands.each_picture import write_each
from faceprivacy_core.commands.inputs import make_plan
from faceprivacy_core.errors import InputError


def run(folder: Path, out: Path, failures: dict[str, Exception] | None = None) -> tuple[int, list[str]]:
    """Write every picture of a folder as a copy; return the status and the names that were written."""
    written: list[str] = []

    def write(path: Path, target: Path) -> str:
        if path.name in (failures or {}):
            raise failures[path.name]
        target.with_name(target.name + ".png").write_bytes(path.read_bytes())
        written.append(path.name)
        return "done"

    plan = make_plan([folder], out, recursive=True)
    return write_each(plan, argparse.Namespace(out=out), write), written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png", "sub/d.png", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(name.encode())
    return tmp_path / "in"


def test_all_pictures_are_written_and_the_others_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(folder, tmp_path / "out") == (0, ["a.png", "b.png", "c.png", "d.png"])
    assert (tmp_path / "out" / "sub" / "d.png").read_bytes() == b"sub/d.png"
    said = capsys.readouterr().out
    assert "notes.txt: passed over" in said
    assert "4 of 4 pictures written" in said
    assert "Other files passed over: 1." in said


@pytest.mark.parametrize("error", [InputError("too odd"), OSError(28, "No space left"), PermissionError(13, "denied")])
def test_one_bad_file_never_ends_a_run(error: Exception, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(folder, tmp_path / "out", {"b.png": error}) == (1, ["a.png", "c.png", "d.png"])
    said = capsys.readouterr()
    assert "b.png: not written" in said.err
    assert "3 of 4 pictures written" in said.out


def test_pictures_that_share_a_result_are_refused_and_the_status_says_it(folder: Path, tmp_path: Path):
    (folder / "a.jpg").write_bytes(b"")
    assert run(folder, tmp_path / "out") == (1, ["b.png", "c.png", "d.png"])


def test_an_output_that_is_a_file_is_one_clear_error(folder: Path, tmp_path: Path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(InputError, match="there is a file of this name"):
        run(folder, tmp_path / "out")


@pytest.mark.parametrize("coding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_names_that_a_console_cannot_show_become_escapes(coding: str):
    names = ["\N{GRINNING FACE}.png", "caf\udce9.png", "日本.png", "plain.png"]
    stream = io.TextIOWrapper(io.BytesIO(), encoding=coding, errors="strict")
    for name in names:
        say(name, stream)
    lines = stream.buffer.getvalue().decode(coding).splitlines()
    assert len(lines) == len(names)
    assert lines[-1] == "plain.png"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_name_of_another_coding_ends_nothing(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.png", b"zz.png"):
        with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as stream:
            stream.write(b"x")
    status, written = run(tmp_path / "in", tmp_path / "out")
    assert (status, written[-1]) == (0, "zz.png")


def test_a_reader_that_goes_away_is_no_picture_that_failed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def gone(text: str, stream: object = None) -> None:
        if ": done" in text:
            raise BrokenPipeError

    monkeypatch.setattr("faceprivacy_core.commands.telling.say", gone)
    with pytest.raises(BrokenPipeError):
        run(folder, tmp_path / "out")
