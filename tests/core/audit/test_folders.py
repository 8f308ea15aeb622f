"""Folders, links and names of files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.audit import kinds, png, run


def test_folders_are_followed_and_links_out_of_them_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    (inside / "deep" / "a.PNG").write_bytes(png(("Author", "Anna")))
    (inside / "notes.txt").write_text("no picture")
    (outside / "b.png").write_bytes(png(("Author", "Berta")))
    try:
        (inside / "b.png").symlink_to(outside / "b.png")
        (inside / "far").symlink_to(outside)
        (inside / "round").symlink_to(inside)
        (inside / "dead.png").symlink_to(inside / "nothing")
        (inside / "near.png").symlink_to(inside / "deep" / "a.PNG")
    except OSError:
        pytest.skip("This system makes no links.")
    files = json.loads(run(capsys, inside, as_document=True)[1])
    assert [Path(file["file"]).name for file in files["files"]] == ["near.png", "a.PNG"]
    assert files["not_looked_at"] == 4
    assert kinds(capsys, inside / "b.png") == {"person"}, "a link that is named is followed"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_make_the_audit_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "a.png")
    assert run(capsys, tmp_path)[0] == 2


def test_names_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a\x1b[2J\nclean.png"
    try:
        path.write_bytes(png(("Au\x1b[2Jthor", "Anna")))
    except (OSError, ValueError):
        pytest.skip("This system allows no such names.")
    said = run(capsys, path)[1]
    assert "\x1b" not in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("name", ["a.avif", "b.HEIC", "c.heif", "d.hif"])
def test_pictures_of_a_folder_that_cannot_be_audited_are_problems(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / name).write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0mif1avif" + bytes(64))
    status, said = run(capsys, tmp_path)
    assert status == 2
    assert name in said


def test_saved_inversions_of_a_folder_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    vectors = Path(__file__).parents[2] / "vectors" / "v3"
    for name, kind in (("key", {"payload"}), ("passphrase", {"payload"}), ("unprotected", {"faces"})):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(vectors / f"{name}.fpinv", folder / "a.fpinv")
        assert kinds(capsys, folder / "a.fpinv") == kind
        assert run(capsys, folder)[0] == (1 if name == "unprotected" else 0)
