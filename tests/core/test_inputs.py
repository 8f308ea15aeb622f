"""Every file of a run is accounted for: taken, refused or passed over, with the reason."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from faceprivacy_core.commands.inputs import check_outputs, make_plan
from faceprivacy_core.errors import InputError


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_pictures_of_every_ending_are_taken_and_the_rest_is_named(tmp_path: Path):
    folder = touched(tmp_path, "a.PNG", "b.jfif", "c.HEIC", "d.avif", "e.mp4", "f.txt", "._a.png", ".hidden.jpg", "sub/g.png")
    plan = make_plan([folder], tmp_path / "out")
    assert [path.name for path in plan.pictures] == ["a.PNG", "b.jfif", "c.HEIC", "d.avif"]
    assert [path.name for path, _ in plan.passed_over] == ["e.mp4", "f.txt", "sub"]
    assert "--recursive" in dict(plan.passed_over)[tmp_path / "sub"]


def test_subfolders_keep_their_places(tmp_path: Path):
    folder = touched(tmp_path / "in", "a.png", "one/a.png", "one/two/a.png")
    plan = make_plan([folder], tmp_path / "out", recursive=True)
    targets = [plan.target(path, tmp_path / "out").relative_to(tmp_path) for path in plan.pictures]
    assert [str(target.as_posix()) for target in targets] == ["out/a", "out/one/a", "out/one/two/a"]
    assert plan.refused == {}


def test_results_are_not_taken_as_pictures_again(tmp_path: Path):
    folder = touched(tmp_path, "a.png", "out/a.png")
    assert [path.parent for path in make_plan([folder], tmp_path / "out", recursive=True).pictures] == [tmp_path]


def test_links_to_folders_and_to_themselves_end_nothing(tmp_path: Path):
    folder = touched(tmp_path / "in", "a.png")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "up").symlink_to(folder, target_is_directory=True)
    plan = make_plan([folder], tmp_path / "out", recursive=True)
    assert [path.name for path in plan.pictures] == ["a.png", "loop.jpg"]  # reading the second will say what it is
    assert plan.passed_over == [(folder / "up", "a link to a folder")]


def test_pictures_that_would_share_a_result_are_refused_and_the_others_go_on(tmp_path: Path):
    folder = touched(tmp_path / "in", "a.jpg", "a.png", "B.jpg", "b.tif", "c.jpg")
    plan = make_plan([folder], tmp_path / "out")
    assert sorted(path.name for path in plan.refused) == ["B.jpg", "a.jpg", "a.png", "b.tif"]
    assert "a.png" in plan.refused[folder / "a.jpg"]


def test_results_over_an_original_are_refused_even_if_it_is_another_picture(tmp_path: Path):
    folder = touched(tmp_path, "a.png", "b.jpg")
    refused = check_outputs([folder / "a.png", folder / "b.jpg"], folder / "." / "x" / "..")
    assert list(refused) == [folder / "a.png"]
    assert "overwritten" in refused[folder / "a.png"]


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = touched(tmp_path, "a.png", "sub/b.png")
    listing = os.listdir

    def fail(path: Path) -> list[str]:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "listdir", fail)
    plan = make_plan([folder], tmp_path / "out", recursive=True)
    assert [path.name for path in plan.pictures] == ["a.png"]
    assert "Permission denied" in plan.refused[folder / "sub"]


def test_no_picture_at_all_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"Files passed over: 1"):
        make_plan([touched(tmp_path, "a.txt")], tmp_path / "out")
    with pytest.raises(InputError, match="found nothing at"):
        make_plan([tmp_path / "gone.png"], tmp_path / "out")


def test_time_grows_with_the_number_of_pictures():
    def seconds(count: int) -> float:
        files = [Path(f"/nowhere/IMG_{index:06d}.jpg") for index in range(count)]
        start = time.process_time()
        assert check_outputs(files, Path("/nowhere/out")) == {}
        return time.process_time() - start

    seconds(100)
    # Linear is a factor of 4, quadratic one of 16; the best of three, because other programs run, too.
    assert min(seconds(8000) for _ in range(3)) < 10 * min(seconds(2000) for _ in range(3))
