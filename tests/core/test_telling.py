"""What a run says: how much is left, events for programs, and words that a shell completes."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from faceprivacy_core.commands import COMMANDS, main
from faceprivacy_core.commands.console import has_bars
from faceprivacy_core.commands.each_picture import write_each
from faceprivacy_core.commands.inputs import make_plan
from faceprivacy_core.commands.telling import Teller, time_text
from faceprivacy_core.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def run(folder: Path, *, as_json: bool) -> int:
    def write(path: Path, target: Path) -> str:
        if path.name == "b.png":
            raise InputError("too odd")
        return "done"

    args = argparse.Namespace(out=folder.parent / "out", json=as_json)
    return write_each(make_plan([folder], args.out), args, write)


def test_lines_say_how_many_are_done_and_what_is_left(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(folder, as_json=False) == 1
    said = capsys.readouterr()
    assert "a.png: done (1 of 3, 0 s left)" in said.out.replace("1 s left", "0 s left")
    assert "too odd (2 of 3," in said.err
    assert said.out.splitlines()[-2] == "c.png: done"


def test_events_are_one_document_a_line_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]):
    status = run(folder, as_json=True)
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert said.err == ""
    assert [event["event"] for event in events] == ["passed over", "written", "failed", "written", "end"]
    assert [event["number"] for event in events[1:4]] == [1, 2, 3]
    assert {event["of"] for event in events[1:]} == {3}
    assert events[2]["text"] == "too odd"
    assert events[-1] == {"event": "end", "written": 2, "of": 3, "kept": 0, "passed_over": 1, "status": status}


def test_every_event_is_described():
    root = Path(__file__).parents[2]
    code = (root / "faceprivacy_core" / "commands" / "telling.py").read_text(encoding="utf-8")
    told = set(re.findall(r'_say\(\s*"([a-z ]+)"', code)) | {"end"}
    section = (root / "docs" / "report.md").read_text(encoding="utf-8").partition("## Events")[2].partition("\n## ")[0]
    described = {name for row in re.findall(r"^\| (`.*?`) \| ", section, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)}
    assert described == told | {"event"}


def test_a_name_of_another_coding_is_a_document_too(capsys: pytest.CaptureFixture[str]):
    Teller(as_json=True).passed_over(Path("caf\udce9.png"), "no picture")
    assert json.loads(capsys.readouterr().out)["input"] == "caf\udce9.png"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7201, "3 h")])
def test_times_are_told_in_units_that_one_can_follow(seconds: float, text: str):
    assert time_text(seconds) == text


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch):
    assert not has_bars()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert has_bars()
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert not has_bars()


def test_no_word_at_all_shows_what_there_is(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    assert "anonymize" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["faceprivacy", "clo"], "cloak"),
        (["faceprivacy", "anonymize", "--on-n"], "--on-no-face"),
        (["faceprivacy", "key", "n"], "new"),
    ],
)
def test_bash_completes_commands_options_and_actions(typed: list[str], offered: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    words = " ".join(typed)
    script += f'\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _faceprivacy; echo "${{COMPREPLY[@]}}"'
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (ran.stdout.strip(), ran.stderr) == (offered, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_every_script(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS:
        assert command.__name__.rpartition(".")[2] in script
    assert "--resume" in script or "-l resume" in script
