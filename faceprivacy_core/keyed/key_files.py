"""Key files on disk: nobody but their owner can use them, and none is half written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, KeyNotFoundError
from ..files import NewFile, sweep, write_together
from .key_names import VARIABLE_PREFIX
from .key_text import MAX_KEY_FILE_BYTES, KeyText, parse_key_text

KEY_SUFFIX = ".key"


def read_key_text(path: Path) -> KeyText:
    """Read a key file that its owner alone can use.

    Raises:
        KeyNotFoundError: There is none, or one that others can use or that says something else.
    """
    try:
        # Without O_NONBLOCK, a named pipe under this name would make the program wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise KeyNotFoundError(
            f"Expected a key of this name in the environment variable {VARIABLE_PREFIX}NAME (in capitals) "
            f"or in the file NAME{KEY_SUFFIX} in {path.parent}, found neither. Make one with: "
            "faceprivacy key new NAME, or in a graph with 'create'."
        ) from None
    except OSError as error:
        raise KeyNotFoundError(f"Expected to read the key file {path}, got: {error.strerror}. Check who owns it.") from None
    try:
        status = os.fstat(descriptor)
        is_file = stat.S_ISREG(status.st_mode)
        if is_file and os.name == "posix":
            _check_access(path, status)
        key = parse_key_text(os.read(descriptor, MAX_KEY_FILE_BYTES + 1)) if is_file else None
    finally:
        os.close(descriptor)
    if key is None:
        raise KeyNotFoundError(
            f"Expected a key file written by `faceprivacy key new`, {path} is none or damaged. Put back a copy of it."
        )
    return key


def _check_access(path: Path, status: os.stat_result) -> None:
    """Refuse a key file that others can read, or put another one in the place of."""
    if status.st_uid != os.geteuid():
        raise KeyNotFoundError(f"Expected a key file of your own, {path} belongs to another user. Copy it, and own the copy.")
    if status.st_mode & 0o077:
        raise KeyNotFoundError(
            f"Expected a key file that only its owner can use, others may use {path} too. Run: chmod 600 '{path}'"
        )
    folder = path.parent.stat()
    if folder.st_uid not in (0, os.geteuid()) or folder.st_mode & 0o022:
        raise KeyNotFoundError(
            f"Expected a folder of keys that only you can change, others may change {path.parent} too. "
            f"Run: chmod 700 '{path.parent}'"
        )


def write_key_text(path: Path, make_text: Callable[[], KeyText]) -> None:
    """Write a key file that only its owner can use.

    Args:
        path: The file.
        make_text: Called where it is written, so that no error can carry it.

    Raises:
        InputError: There is a file of this name, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Expected to make the folder {path.parent}, got: {error.strerror}. Choose another.") from None
    sweep(path.parent)
    if os.path.lexists(path):
        raise InputError(f"Expected a new name, {path} is there already. It was not touched.")
    write_together([NewFile(path, make_text().lines().encode("ascii"), private=True)], replace=False)


def replace_key_text(path: Path, text: KeyText) -> None:
    """Put other contents into a key file, at once or not at all.

    Raises:
        InputError: The folder cannot be written.
    """
    write_together([NewFile(path, text.lines().encode("ascii"), private=True)], replace=True)
