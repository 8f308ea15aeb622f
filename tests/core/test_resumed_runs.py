"""Runs that go on: what is finished stays, what changed comes again, what failed is named, and who dies is replaced."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from faceprivacy_core.commands import main
from faceprivacy_core.commands.each_picture import add_run_options, write_each
from faceprivacy_core.commands.inputs import make_plan
from faceprivacy_core.commands.manifest import Manifest, State, find_manifests, in_shard, read_entries
from faceprivacy_core.commands.resuming import open_manifest
from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.files import check_free, write_file

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
LONG = int(os.environ.get("FACEPRIVACY_KILLS", "0"))
"""How often the whole run is killed; the long form is 20 over 300 pictures."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three inputs, of which one cannot be done."""
    made = tmp_path / "in"
    made.mkdir()
    for name in ("a.png", "b.png", "nobody.png"):
        (made / name).write_text(name, encoding="ascii")
    return made


class Run:
    """A run over a folder that copies every input but those with nobody in them, and counts what it does."""

    def __init__(self, folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.out, self.capsys = folder, out, capsys
        self.did: list[str] = []

    def __call__(self, *words: str, seed: int = 1) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_run_options(parser)
        args = parser.parse_args(["--resume", *words])
        args.out, args.seed, args.run = self.out, seed, self.__call__
        status = write_each(make_plan([self.folder], self.out), args, lambda path, target: self.copy(args, path, target))
        said = self.capsys.readouterr()
        return status, said.out + said.err

    def copy(self, args: argparse.Namespace, path: Path, target: Path) -> str:
        result = target.with_name(target.name + ".png")
        if not args.force:
            check_free([result])
        content = path.read_bytes()
        if content.startswith(b"nobody"):
            raise NoFaceError("Expected at least one face, found none.")
        write_file(result, content, replace=args.force)
        self.did.append(path.name)
        return "copied"


@pytest.fixture
def run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(folder, tmp_path / "out", capsys)


def moments(folder: Path) -> dict[str, int]:
    """Return when each result was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_run_goes_on_and_does_nothing_twice(folder: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    status, said = run()
    assert status == 1
    assert "2 of 3 pictures written" in said
    first = moments(out)
    assert sorted(first) == ["a.png", "b.png"]
    assert os.name == "nt" or os.stat(find_manifests(out)[0]).st_mode & 0o077 == 0

    status, said = run()
    assert status == 1
    assert "0 of 3 pictures written" in said
    assert "2 were there already" in said
    assert "nobody.png: not written in an earlier run" in said
    assert moments(out) == first

    assert main(["status", str(out)]) == 1
    said = capsys.readouterr()
    assert "2 done, 1 failed, 3 altogether" in said.out
    assert "nobody.png: not written. Expected at least one face" in said.err

    (folder / "nobody.png").write_text("somebody", encoding="ascii")
    os.utime(folder / "b.png", (1, 1))  # the same content at another time
    run.did.clear()
    status, said = run("--retry-failed")
    assert status == 0
    assert run.did == ["nobody.png"]
    (folder / "b.png").write_text("other", encoding="ascii")
    (out / "nobody.png").unlink()  # a result that was lost
    run.did.clear()
    assert run()[0] == 0
    assert run.did == ["b.png", "nobody.png"]
    assert (out / "b.png").read_text(encoding="ascii") == "other"
    assert main(["status", str(out)]) == 0


def test_what_was_begun_when_a_run_died_is_done_again(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # after the result has its name, before the list knows
        patch.setattr(Manifest, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert (tmp_path / "out" / "a.png").exists()
    assert run()[0] == 1
    assert run.did == ["a.png", "a.png", "b.png"]


def test_other_settings_are_refused_by_name_and_so_is_a_second_run(tmp_path: Path, run: Run):
    run()
    with pytest.raises(InputError, match="got another seed"):
        run(seed=4)
    with sqlite3.connect(find_manifests(tmp_path / "out")[0], isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="no other run to use"):
            run()
        other.execute("ROLLBACK")
    find_manifests(tmp_path / "out")[0].write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="cannot be used"):
        run()


def test_results_that_no_run_wrote_are_never_replaced(tmp_path: Path, run: Run):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine", encoding="ascii")
    for words in ((), ("--retry-failed",)):
        status, said = run(*words)
        assert status == 1
        assert "a.png is there already" in said
        assert (tmp_path / "out" / "a.png").read_text(encoding="ascii") == "mine"


def test_shards_are_parts_that_know_of_each_other(folder: Path, tmp_path: Path, run: Run):
    names = [f"picture-{index}" for index in range(1000)]
    parts = [[name for name in names if in_shard(name, (part, 3))] for part in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert min(map(len, parts)) > 250
    (folder / "nobody.png").unlink()
    assert run("--shard", "1/2")[0] == 0
    assert run("--shard", "2/2")[0] == 0
    before = moments(tmp_path / "out")
    assert sorted(before) == ["a.png", "b.png"]
    assert run()[0] == 0
    assert moments(tmp_path / "out") == before


def test_a_long_list_is_read_at_once(tmp_path: Path):
    names = [(f"folder/picture-{index:06}", tmp_path / f"{index:06}.jpg") for index in range(100_000)]
    started = time.perf_counter()
    with Manifest(tmp_path, {"seed": "1"}) as manifest:
        manifest.add(names)
        assert manifest.find(names[-1][0]).state is State.PENDING
    with Manifest(tmp_path, {"seed": "1"}) as manifest:
        manifest.add(names)
        assert all(manifest.find(name).state is State.PENDING for name, _ in names)
    assert time.perf_counter() - started < 12.0  # twice the bar of 3 s, for a busy machine
    assert sum(1 for _ in read_entries(find_manifests(tmp_path)[0])) == 100_000


@pytest.mark.weights
@pytest.mark.parametrize(
    "damage",
    ["outputs = '[1]'", "outputs = '{'", "state = 'odd'", "source = CAST(x'90' AS TEXT)"],
    ids=["no names", "no JSON", "no state", "no text"],
)
def test_a_list_that_holds_something_else_is_refused_with_what_to_do(tmp_path: Path, damage: str):
    with Manifest(tmp_path, {}) as manifest:
        manifest.add([("a", tmp_path / "a.png")])
    with sqlite3.connect(manifest.path) as base:
        base.execute(f"UPDATE item SET {damage}")  # noqa: S608 - the words above
    base.close()
    with pytest.raises(InputError, match="Delete it to begin anew"):
        list(read_entries(manifest.path))
    with Manifest(tmp_path, {}) as manifest, pytest.raises(InputError, match="Delete it to begin anew"):
        manifest.find("a")


def test_workers_give_the_same_bytes_and_one_that_is_killed_is_replaced(tmp_path: Path):
    made = tmp_path / "pictures"
    made.mkdir()
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        small = picture.convert("RGB").resize((172, 256))
    for index in range(6):
        small.rotate(3 * index, fillcolor=(120, 120, 120)).save(made / f"{index}.png")
    assert main(["anonymize", str(made), "--out", str(tmp_path / "alone"), "--dry-run"]) == 0
    driver = start(made, tmp_path / "shared", "--dry-run", "--workers", "2")
    os.kill(wait_for_workers(driver.pid)[0], signal.SIGKILL)
    said, complaints = driver.communicate(timeout=300)
    assert driver.returncode == 0, complaints
    assert "6 of 6 pictures written" in said
    assert pixels(tmp_path / "shared") == pixels(tmp_path / "alone")
    assert not [path for path in (tmp_path / "shared").iterdir() if path.name.endswith(".part")]


@pytest.mark.weights
@pytest.mark.skipif(not LONG, reason="set FACEPRIVACY_KILLS to how often the run shall be killed")
def test_a_run_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path):
    made, out = tmp_path / "pictures", tmp_path / "out"
    made.mkdir()
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        small = picture.convert("RGB").resize((86, 128))
    for index in range(15 * LONG):
        small.rotate(index % 40 - 20, fillcolor=(120, 120, 120)).save(made / f"{index:04}.png")
    for attempt in range(LONG):
        driver = start(made, out, "--resume", "--retry-failed", "--method", "solid")
        time.sleep(6.0 + random.random() * 8.0)
        driver.kill()
        driver.communicate()
        assert not [path.name for path in out.glob("*.png") if not Image.open(path).load()], attempt
    said, complaints = start(made, out, "--resume", "--retry-failed", "--method", "solid").communicate()
    assert f"of {15 * LONG} pictures written" in said, complaints
    assert len(list(out.glob("*.png"))) == len(list(out.glob("*.json"))) == 15 * LONG


def start(folder: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """Begin a run in a process of its own."""
    command = [sys.executable, "-m", "faceprivacy_core", "anonymize", str(folder), "--out", str(out), *words]
    environment = os.environ | {"PYTHONPATH": str(SAMPLES.parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_workers(driver: int, limit_s: float = 120.0) -> list[int]:
    """Return the processes of a driver's workers."""
    listed = Path(f"/proc/{driver}/task/{driver}/children")
    if not listed.exists():
        pytest.skip("Finding the workers needs /proc.")
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        children = [int(word) for word in listed.read_text(encoding="ascii").split()]
        spawned = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if len(spawned) == 2:
            return spawned
        time.sleep(0.05)
    pytest.fail("There are no workers.")


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--shard", "3/2"], "a part such as 2/8"), (["--workers", "0"], "1 to 256 processes")],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["anonymize", "x.png", "--out", str(tmp_path), *words])
    assert message in capsys.readouterr().err


def test_retrying_needs_a_list_and_so_does_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(InputError, match="together with --resume"):
        open_manifest(argparse.Namespace(retry_failed=True))
    assert main(["status", str(tmp_path)]) == 1
    assert "found none" in capsys.readouterr().err
