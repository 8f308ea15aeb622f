"""How the pack writes files: whole or not at all, and together or not at all.

A file is written under a hidden name in its folder, brought to the disk, and then given its name.
Links are never followed: what stands under a name is replaced itself, or refused.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError

PART_PREFIX, PART_SUFFIX = ".faceprivacy-", ".part"
LEFTOVER_S = 3600.0
"""A hidden part that is older was left by a run that was killed."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES)
"""How file systems without hard links answer."""


@dataclass(frozen=True)
class NewFile:
    """A file to be written.

    Attributes:
        path: Its name.
        content: All of it; never shown.
        private: Only the owner may read it (mode 0600): keys, originals, and what brings originals back.
        part: A finished file of `hidden_part` that is taken in place of the content.
    """

    path: Path
    content: bytes = field(repr=False)
    private: bool = False
    part: Path | None = None


def write_file(path: Path, content: bytes, *, private: bool = False, replace: bool = True) -> None:
    """Write one file; see `write_together`."""
    write_together([NewFile(path, content, private)], replace=replace)


def write_together(files: Sequence[NewFile], *, replace: bool) -> None:
    """Write files that belong together: all of them, or none and the former ones stay.

    Args:
        files: In the order in which they get their names; what the others are useless without comes last.
        replace: Replace files that stand there; otherwise they are refused.

    Raises:
        InputError: A file stands there, or the folder cannot be written, or is full.
    """
    if not replace:
        check_free([file.path for file in files])
    hidden: list[Path] = []
    steps: list[tuple[Path, Path, Path | None, bool]] = []
    current = files[0].path if files else Path()
    try:
        for file in files:
            current = file.path
            hidden.append(_part_beside(file.path))
            _write_part(hidden[-1], file)
        for file, part in zip(files, tuple(hidden), strict=True):
            current, is_new, former = file.path, not os.path.lexists(file.path), None
            if len(files) > 1 and not is_new:
                former = _part_beside(file.path)
                hidden.append(former)
                _keep(file.path, former)
            steps.append((part, file.path, former, is_new))  # before the name is given: an interrupt may come in between
            _give_name(part, file.path, replace=replace)
        steps.clear()
    except OSError as error:
        raise _cannot_write(current, error) from None
    finally:
        for part, path, former, is_new in reversed(steps):
            if _has_name(part, path):
                _take_back(path, former, is_new=is_new)
        for part in hidden:
            _remove(part)
    for folder in {file.path.parent for file in files}:
        _sync_folder(folder)


def check_free(paths: Iterable[Path]) -> None:
    """Refuse names under which something stands already, links included.

    Raises:
        InputError: Names the first one.
    """
    for path in paths:
        if os.path.lexists(path):
            raise InputError(
                f"Expected a name that is free, {path} is there already and was not touched. Choose another folder, or say "
                "--force to replace it."
            )


def make_folder(path: Path) -> None:
    """Make a folder for results, and its parents; sweep what killed runs have left in it.

    Raises:
        InputError: There is a file of this name, or it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"Expected a folder at {path}, there is a file of this name. Choose another with --out.") from None
    except OSError as error:
        raise _cannot_write(path, error) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"Expected a folder that can be written, {path} cannot. Choose another with --out.")
    sweep(path)


def sweep(folder: Path) -> None:
    """Remove hidden parts that killed runs have left in a folder; they may hold originals."""
    oldest = time.time() - LEFTOVER_S
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PART_PREFIX) and entry.name.endswith(PART_SUFFIX):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime < oldest:
                        os.unlink(entry.path)


def _part_beside(path: Path) -> Path:
    return path.with_name(f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}")


@contextmanager
def hidden_part(path: Path) -> Iterator[Path]:
    """Make an empty hidden file beside a result that is too large for memory; it is gone when the block ends.

    Raises:
        InputError: It cannot be made.
    """
    part = _part_beside(path)
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        yield part
    finally:
        _remove(part)


def _write_part(part: Path, file: NewFile) -> None:
    if file.part is not None:
        descriptor = os.open(file.part, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(file.part, part)
        return
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(part, flags, 0o600 if file.private else 0o666), "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())


def _give_name(part: Path, path: Path, *, replace: bool) -> None:
    """Move a part to its name in one step, over what stands there or not at all."""
    if replace:
        os.replace(part, path)
    elif os.name == "nt":
        os.rename(part, path)  # refuses a name that is taken
    else:
        try:
            os.link(part, path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(path):
                raise
            os.replace(part, path)


def _keep(path: Path, former: Path) -> None:
    """Give what stands under a name another one, from which it can come back; a copy where file systems know no second name."""
    try:
        os.link(path, former, follow_symlinks=False)
    except (OSError, NotImplementedError):
        if path.is_symlink():
            os.symlink(os.readlink(path), former)
        elif path.is_file():
            _write_part(former, NewFile(former, path.read_bytes(), private=True))
            shutil.copymode(path, former)


def _has_name(part: Path, path: Path) -> bool:
    """Tell whether a part got its name: then it has no other any more, or both are one file."""
    try:
        return os.path.samestat(os.lstat(part), os.lstat(path))
    except OSError:
        return not os.path.lexists(part)


def _take_back(path: Path, former: Path | None, *, is_new: bool) -> None:
    with suppress(OSError):
        if is_new:
            os.unlink(path)
        elif former is not None and os.path.lexists(former):
            os.replace(former, path)


def _remove(part: Path) -> None:
    with suppress(OSError):
        os.unlink(part)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system knows how."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileExistsError):
        return InputError(f"Expected a name that is free, {path} is there already. Say --force to replace it.")
    reason = error.strerror or "an unknown failure"
    return InputError(f"Expected to write {path}, got: {reason}. Choose another folder, or make room.")
