"""What a run has done: one small database beside the results, so that it can be gone on with after any end."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType

from ..errors import InputError

PREFIX, SUFFIX = ".faceprivacy-run", ".sqlite"
"""Hidden, and readable by its owner alone: it names the originals and holds their checksums."""

TABLES = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS item (
    name TEXT PRIMARY KEY, source TEXT NOT NULL, state TEXT NOT NULL, size INTEGER, modified INTEGER, sha256 TEXT,
    outputs TEXT NOT NULL DEFAULT '{}', reason TEXT NOT NULL DEFAULT ''
);
"""
CHUNK = 1 << 20
_DAMAGE = (sqlite3.Error, RecursionError, TypeError, ValueError)
"""What is raised for a list that holds something else."""


class State(str, Enum):
    """How far an input has come."""

    PENDING = "pending"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """One input.

    Attributes:
        name: Of its results, below the folder, without ending.
        source: Its path as it was given.
        state: How far it has come.
        size, modified, sha256: Of the input when it was begun: bytes, nanoseconds, and all of it.
        outputs: Size in bytes of every result, by name below the folder.
        reason: Why it failed.
    """

    name: str
    source: str
    state: State
    size: int | None = None
    modified: int | None = None
    sha256: str | None = None
    outputs: Mapping[str, int] | None = None
    reason: str = ""


class Manifest:
    """The list of one run; use it in a `with` statement.

    Args:
        folder: Of the results.
        settings: Everything that changes results, by name. A run that was begun with others is refused.
        shard: Number, from 1, and count.

    Raises:
        InputError: Another run uses the list, it is damaged, or it was begun with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], shard: tuple[int, int] = (1, 1)) -> None:
        self.folder = folder
        self.path = folder / manifest_name(shard)
        self._elsewhere: dict[str, Entry] = {}
        for other in find_manifests(folder):
            if other != self.path:
                self._elsewhere |= {entry.name: entry for entry in read_entries(other) if entry.state is State.DONE}
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._base = sqlite3.connect(self.path, timeout=0.5, isolation_level=None)
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("BEGIN IMMEDIATE")
            for statement in TABLES.split(";"):
                self._base.execute(statement)
            self._base.execute("COMMIT")
            self._check_settings(settings)
        except (*_DAMAGE, OSError) as error:
            self._close()
            raise _unusable(self.path, error) from None
        except InputError:
            self._close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def add(self, items: Iterable[tuple[str, Path]]) -> None:
        """Put names with their inputs on the list, those that are not yet there."""
        self._base.execute("BEGIN")
        rows = ((name, os.fspath(path), State.PENDING.value) for name, path in items)
        self._base.executemany("INSERT OR IGNORE INTO item (name, source, state) VALUES (?, ?, ?)", rows)
        self._base.execute("COMMIT")

    def find(self, name: str) -> Entry | None:
        """Return what is known of an input; of another shard's only if it is done."""
        try:
            row = self._base.execute("SELECT * FROM item WHERE name = ?", (name,)).fetchone()
            own = None if row is None else _entry(row)
        except _DAMAGE as error:
            raise _unusable(self.path, error) from None
        return self._elsewhere.get(name, own) if own is None or own.state is State.PENDING else own

    def begin(self, name: str, path: Path, *, owns: bool) -> None:
        """Say that an input is being worked on; `owns` says that whatever will stand under the names of its results is ours."""
        status = path.stat()
        state = State.BEGUN if owns else State.PENDING
        self._base.execute(
            "INSERT OR IGNORE INTO item (name, source, state) VALUES (?, ?, ?)", (name, os.fspath(path), state.value)
        )
        self._base.execute(
            "UPDATE item SET source = ?, state = ?, size = ?, modified = ?, sha256 = ? WHERE name = ?",
            (os.fspath(path), state.value, status.st_size, status.st_mtime_ns, file_sha256(path), name),
        )

    def finish(self, name: str, outputs: Sequence[Path]) -> None:
        """Say that the results of an input are there."""
        sizes = {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in outputs}
        self._base.execute(
            "UPDATE item SET state = ?, outputs = ?, reason = '' WHERE name = ?", (State.DONE.value, json.dumps(sizes), name)
        )

    def fail(self, name: str, path: Path, reason: str) -> None:
        """Say that there are no results of an input, and why."""
        self._base.execute(
            "INSERT OR IGNORE INTO item (name, source, state) VALUES (?, ?, ?)", (name, os.fspath(path), "failed")
        )
        self._base.execute("UPDATE item SET state = ?, reason = ? WHERE name = ?", (State.FAILED.value, reason, name))

    def is_whole(self, entry: Entry, path: Path) -> bool:
        """Tell whether the results of an input that is done are there, and the input is the same as then."""
        for name, size in (entry.outputs or {}).items():
            with suppress(OSError, ValueError):
                if (self.folder / name).stat().st_size == size:
                    continue
            return False
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (entry.size, entry.modified):
            return True
        return status.st_size == entry.size and file_sha256(path) == entry.sha256

    def _check_settings(self, settings: Mapping[str, str]) -> None:
        known = {str(key): value for key, value in self._base.execute("SELECT key, value FROM run")}
        if not known:
            self._base.executemany("INSERT INTO run VALUES (?, ?)", settings.items())
            return
        others = sorted(key for key in known.keys() | settings.keys() if known.get(key) != settings.get(key))
        if others:
            raise InputError(
                f"Expected the settings with which {self.folder} was begun, got another {', '.join(others)}. Give the same, or "
                "another folder with --out."
            )

    def _close(self) -> None:
        base = getattr(self, "_base", None)
        if base is not None:
            base.close()


def manifest_name(shard: tuple[int, int]) -> str:
    """Return the file name of a shard's list."""
    return f"{PREFIX}{SUFFIX}" if shard[1] == 1 else f"{PREFIX}-{shard[0]}-of-{shard[1]}{SUFFIX}"


def find_manifests(folder: Path) -> list[Path]:
    """Return the lists of all shards of a folder."""
    return sorted(path for path in folder.glob(f"{PREFIX}*{SUFFIX}") if path.is_file())


def read_entries(path: Path) -> Iterator[Entry]:
    """Read a list without changing it.

    Raises:
        InputError: It is damaged, or a run has it open at this moment.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)) as base:
            yield from (_entry(row) for row in base.execute("SELECT * FROM item ORDER BY name").fetchall())
    except _DAMAGE as error:
        raise _unusable(path, error) from None


def in_shard(name: str, shard: tuple[int, int]) -> bool:
    """Tell whether a name belongs to a shard; it does so wherever and in whatever order names are listed."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % shard[1] == shard[0] - 1


def file_sha256(path: Path) -> str:
    """Return the checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _entry(row: Sequence[object]) -> Entry:
    name, source, state, size, modified, sha256, outputs, reason = row
    made = json.loads(str(outputs))
    if not isinstance(made, dict):
        raise ValueError("no results by name")
    return Entry(str(name), str(source), State(state), size, modified, sha256, made, str(reason))


def _unusable(path: Path, error: Exception) -> InputError:
    if "locked" in str(error):
        return InputError(
            f"Expected no other run to use {path.parent}, one does. Wait for it, or share the work: "
            "--shard 1/2 and --shard 2/2."
        )
    return InputError(f"Expected the list of a run at {path}, it cannot be used ({error}). Delete it to begin anew.")
