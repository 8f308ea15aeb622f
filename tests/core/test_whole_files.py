"""Files are written whole or not at all, together or not at all, and never through a link."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faceprivacy_core import files
from faceprivacy_core.errors import InputError
from faceprivacy_core.files import NewFile, make_folder, sweep, write_file, write_together

POSIX = pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX systems")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def trio(folder: Path) -> list[NewFile]:
    return [NewFile(folder / name, name.encode() * 3) for name in ("a.fpinv", "a.json", "a.png")]


def test_files_that_belong_together_are_written(tmp_path: Path):
    write_together(trio(tmp_path), replace=False)
    assert contents(tmp_path) == {file.path.name: file.content for file in trio(tmp_path)}


@pytest.mark.parametrize("taken", ["a.fpinv", "a.json", "a.png"])
def test_a_name_that_is_taken_is_refused_and_nothing_is_touched(taken: str, tmp_path: Path):
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises(InputError, match="--force"):
        write_together(trio(tmp_path), replace=False)
    assert contents(tmp_path) == {taken: b"mine"}


@pytest.mark.parametrize("taken", ["a.fpinv", "a.json", "a.png"])
def test_a_name_that_is_taken_in_between_is_refused_too(taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "check_free", lambda paths: (tmp_path / taken).write_bytes(b"mine"))
    with pytest.raises(InputError, match="there already"):
        write_together(trio(tmp_path), replace=False)
    assert contents(tmp_path) == {taken: b"mine"}


@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("function", ["_write_part", "_give_name"])
@pytest.mark.parametrize(
    "former", [{}, {"a.fpinv": b"old", "a.json": b"old", "a.png": b"old"}], ids=["new", "over former ones"]
)
def test_a_failure_at_any_step_leaves_what_was_there(
    step: int, function: str, former: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, content in former.items():
        (tmp_path / name).write_bytes(content)
    real, calls = getattr(files, function), []

    def fail_once(*args: object, **options: object) -> None:
        calls.append(args)
        if len(calls) == step + 1:
            raise OSError(28, "No space left on device")
        real(*args, **options)

    monkeypatch.setattr(files, function, fail_once)
    with pytest.raises(InputError, match="No space left"):
        write_together(trio(tmp_path), replace=True)
    assert contents(tmp_path) == former


@POSIX
@pytest.mark.parametrize("replace", [True, False])
def test_a_link_is_never_followed(replace: bool, tmp_path: Path):
    victim, link = tmp_path / "victim", tmp_path / "a.png"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    if replace:
        write_file(link, b"new", replace=True)
        assert not link.is_symlink()
    else:
        with pytest.raises(InputError):
            write_file(link, b"new", replace=False)
    assert victim.read_bytes() == b"precious"


@POSIX
def test_private_files_are_their_owners(tmp_path: Path):
    write_file(tmp_path / "a", b"original", private=True)
    write_file(tmp_path / "a", b"original", private=True, replace=True)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("replace", [True, False])
def test_file_systems_without_links_do(replace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    write_together(trio(tmp_path), replace=replace)
    assert sorted(contents(tmp_path)) == ["a.fpinv", "a.json", "a.png"]
    with pytest.raises(InputError):
        write_together(trio(tmp_path), replace=False)


def test_what_killed_runs_have_left_is_swept_and_nothing_else(tmp_path: Path):
    old, new, foreign = (tmp_path / name for name in (".faceprivacy-1.part", ".faceprivacy-2.part", ".other.part"))
    for path in (old, new, foreign):
        path.write_bytes(b"x")
    for path in (old, foreign):
        os.utime(path, (time.time() - 2 * files.LEFTOVER_S,) * 2)
    make_folder(tmp_path)
    assert sorted(contents(tmp_path)) == [new.name, foreign.name]
    sweep(tmp_path / "missing")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path):
    (tmp_path / "out").write_bytes(b"")
    for path in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(InputError, match="out"):
            make_folder(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path):
    """Asked in a copy of this process that may do less: the one that tests may be allowed everything."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o555)
    tmp_path.chmod(0o755)
    child = os.fork()
    if not child:
        status = 1
        try:
            if os.geteuid() == 0:
                os.chdir(tmp_path)
                os.setuid(65534)
            with pytest.raises(InputError, match=r"Expected .*out.* Choose another"):
                make_folder(Path("out") if Path.cwd() == tmp_path else tmp_path / "out")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_but_the_one_writer_writes_files():
    root, found = Path(__file__).parents[2], set()
    for path in (path for room in ("faceprivacy_core", "nodes") for path in (root / room).rglob("*.py")):
        if _writes(ast.parse(path.read_text(encoding="utf-8"))):
            found.add(path.relative_to(root).as_posix().removeprefix("faceprivacy_core/"))
    in_memory = {"adversarial/transforms.py", "clean_files.py", "picture_files.py"}
    in_own_folders, in_hidden_parts = {"commands/packages.py", "commands/models.py"}, {"video/writing.py"}
    assert found == {"files.py"} | in_memory | in_own_folders | in_hidden_parts


def _writes(tree: ast.AST) -> bool:
    """Tell whether a module opens a file to write it, or calls what does."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        words = {word.value for word in call.args[:2] if isinstance(word, ast.Constant)}
        if name in ("open", "fdopen") and words & {"w", "wb", "a", "ab", "x", "xb", "r+", "r+b", "w+b"}:
            return True
        if name in ("write_bytes", "write_text", "save_file", "imwrite", "tofile", "copyfile") or (name == "save" and words):
            return True
    return False


WRITER = """
import sys
from pathlib import Path
from faceprivacy_core.files import NewFile, write_together
folder, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    names = ("a.fpinv", "a.json", "a.png")
    write_together([NewFile(folder / name, str(number).encode() * 100_000) for name in names], replace=True)
"""


@POSIX
def test_a_killed_writer_leaves_whole_files(tmp_path: Path):
    """Under a final name stands all of one version, at every moment at which the process can die."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for index in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.02 + 0.01 * index)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        for name in ("a.fpinv", "a.json", "a.png"):
            content = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else b""
            version = content[: len(content) // 100_000]
            assert content == version * 100_000
