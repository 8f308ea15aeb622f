"""What cannot be read is a problem that is said, never silence."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from faceprivacy_core.audit import files, text
from faceprivacy_core.audit.secrets import Secrets
from tests.support.audit import BASE, KEY, as_json, chunk, encoded, exif, png, run, written


def test_a_damaged_key_file_is_a_problem_and_not_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: Path):
    (keys / "broken.key").write_text(f"faceprivacy-key-1 {KEY.hex()[:-1]}\n")
    path = written(tmp_path, encoded(), "png")
    status, said = run(capsys, path)
    assert status == 2
    assert "broken.key" in said
    status, said = run(capsys, path, as_document=True)
    assert status == json.loads(said)["status"] == 2
    assert len(json.loads(said)["problems"]) == 1


def test_what_cannot_be_read_ends_with_2_and_the_others_are_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.png").write_bytes(encoded()[:-20])
    (tmp_path / "b.json").write_text('{"password": ')
    (tmp_path / "c.png").write_bytes(png(("Author", "Anna")))
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    status, said = run(capsys, tmp_path, tmp_path / "missing.png")
    assert status == 2
    assert said.count("Do not take it for clean") == 4
    assert "c.png: names or contacts of people (PNG text Author)" in said
    status, said = run(capsys, tmp_path, as_document=True)
    assert [bool(file["problem"]) for file in json.loads(said)["files"]] == [True, True, False, True]


def test_findings_before_the_damage_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, said = run(capsys, written(tmp_path, png(("Author", "Anna"))[:-20], "png"))
    assert status == 2
    assert "personal" in said


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("png", lambda: png(("a", "b" * 3_000_000), compressed=True)),
        ("png", lambda: chunk(b"zTXt", b"a\0\0" + b"x" * 40)),
        ("png", lambda: chunk(b"iTXt", b"a\0\1\0\0\0" + b"x" * 40)),
        ("png", lambda: chunk(b"eXIf", b"no directory")),
        ("jpg", lambda: encoded("jpg", exif=b"Exif\0\0no directory")),
        ("jpg", lambda: encoded("jpg", exif=exif({BASE.Artist: "Anna" * 9})[:-20])),
        ("jpg", lambda: encoded("jpg")[:-2]),
        ("json", lambda: b"[" * 200_000),
        ("json", lambda: b"1" * 10_000),
        ("json", lambda: b"\xff\xfe\x00"),
        ("fprv", lambda: b"FPRV1\0\0\1\xff\xff\xff\xff"),
    ],
)
def test_hidden_or_damaged_parts_are_problems_not_silence(
    suffix: str, make: Callable[[], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(capsys, written(tmp_path, make(), suffix))[0] == 2


def test_compressed_text_takes_bounded_memory(tmp_path: Path):
    bomb = zlib.compress(bytes(64 * 2**20))
    path = written(tmp_path, chunk(b"zTXt", b"a\0\0" + bomb), "png")
    tracemalloc.start()
    report = files.audit_file(path, Secrets())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.problems
    assert peak < 8 * 2**20


def test_files_and_texts_beyond_the_caps_are_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = written(tmp_path, as_json(["x" * 100]), "json")
    assert run(capsys, path)[0] == 0
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 100)
    assert run(capsys, path)[0] == 2
    monkeypatch.setattr(text, "MAX_TEXT_BYTES", 1000)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)
    assert run(capsys, path)[0] == 2
