"""The host is unpacked whole, from the right archive, and nowhere else."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from devtools import comfyui
from devtools.comfyui import ensure_host, link_folder, make_base, unpack_tree, verify_sha256
from devtools.console import DevError
from devtools.paths import PACK_NAME

INNER = PurePosixPath("vendor/ComfyUI")


def _archive(path: Path, *names: str, link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"text"))
        if link is not None:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    return path


def test_unpack_takes_one_folder_and_nothing_else(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", "top/vendor/ComfyUI/comfy/x.py", "top/setup.py")
    unpack_tree(archive, INNER, tmp_path / "out")
    files = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.py")]
    assert files == [Path("comfy/x.py")]


@pytest.mark.parametrize(
    "name",
    ["top/vendor/ComfyUI/../../../x.py", "/etc/x.py", "top/vendor/ComfyUI/C:x.py", "top\\..\\x.py"],
)
def test_unpack_refuses_a_path_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    archive = _archive(tmp_path / "a.tar.gz", name)
    with pytest.raises(DevError, match="unsafe path"):
        unpack_tree(archive, INNER, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unpack_refuses_links(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", link="top/vendor/ComfyUI/models")
    with pytest.raises(DevError, match="neither a file nor a folder"):
        unpack_tree(archive, INNER, tmp_path / "out")


def test_unpack_refuses_an_archive_without_the_folder(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", "top/setup.py")
    with pytest.raises(DevError, match="holds no folder vendor/ComfyUI"):
        unpack_tree(archive, INNER, tmp_path / "out")


def test_wrong_hash_names_both_hashes_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"other")
    with pytest.raises(DevError, match=r"should be 0000.* and is d9298a10.*Try again"):
        verify_sha256(path, "0" * 64)


def test_interrupted_fetch_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(python: Path, folder: Path) -> Path:
        return _archive(folder / "a.tar.gz", "top/vendor/ComfyUI/main.py")

    monkeypatch.setattr(comfyui, "_download", download)
    with pytest.raises(DevError, match="not the file that was expected"):
        ensure_host(Path("python"), tmp_path)
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setattr(comfyui, "verify_sha256", lambda path, expected: None)
    tree = ensure_host(Path("python"), tmp_path)
    assert (tree / "main.py").read_text() == "text"
    monkeypatch.setattr(comfyui, "_download", lambda *_: pytest.fail("fetched twice"))
    assert ensure_host(Path("python"), tmp_path) == tree


def test_base_holds_every_folder_and_the_pack(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    for _ in range(2):
        base = make_base(tmp_path / "base", pack)
    assert all((base / name).is_dir() for name in comfyui.BASE_FOLDERS)
    assert (base / "custom_nodes" / PACK_NAME / "__init__.py").is_file()


@pytest.mark.skipif(os.name == "nt", reason="making a symbolic link needs a privilege on Windows")
def test_link_to_another_place_is_replaced_and_a_folder_is_kept(tmp_path: Path) -> None:
    for name in ("old", "new", "real"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link_folder(tmp_path / "old", link)
    link_folder(tmp_path / "new", link)
    assert link.resolve() == tmp_path / "new"
    with pytest.raises(DevError, match="a real file or folder is there"):
        link_folder(tmp_path / "new", tmp_path / "real")
