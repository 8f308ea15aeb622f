"""Where a result comes from: model file, settings and sources; and the file of rows that knows it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.pictures import ROOT
from faceprivacy_core.builtin.model import DEFAULT_FILE
from faceprivacy_core.weights import file_sha256

SOURCES = ("faceprivacy_core", "benchmarks")
Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """What a result was measured with.

    Attributes:
        model_sha256: Of the built-in model's file.
        settings: Of the method, as text.
        code: First 12 digits of the sha256 of all sources of core and benchmarks.
    """

    model_sha256: str
    settings: str
    code: str

    @classmethod
    def now(cls, settings: object) -> Origin:
        """Return the origin of what is measured with the shipped model and the present sources."""
        return cls(shipped_model(), repr(settings), code_version())

    def is_comparable(self, row: Row) -> bool:
        """Tell whether a row was measured with the same model and settings; sources may differ."""
        return (row.get("model_sha256"), row.get("settings")) == (self.model_sha256, self.settings)


def shipped_model() -> str:
    """Return the sha256 of the built-in model's file."""
    return file_sha256(DEFAULT_FILE)


@cache
def code_version(root: Path = ROOT) -> str:
    """Return 12 hexadecimal digits that change with any source of core and benchmarks, and with no clock or folder."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in SOURCES for path in (root / folder).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).digest())
    return digest.hexdigest()[:12]


class RowLog:
    """Rows in a file of JSON lines, one for each picture, each with its origin.

    Args:
        file: Appended to; need not exist.
        origin: Of the rows to add. Rows of another model or other settings stay in the file and do not count.
        others: Files of parts that run beside this one.
    """

    def __init__(self, file: Path, origin: Origin, others: tuple[Path, ...] = ()) -> None:
        self.file, self.origin = file, origin
        files = [path for path in dict.fromkeys((file, *others)) if path.is_file()]
        rows = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
        self.rows = {row["picture"]: row for row in rows if origin.is_comparable(row)}
        self.num_left_out = len(rows) - sum(map(origin.is_comparable, rows))

    @property
    def origin_of_rows(self) -> Origin:
        """What the rows that count were measured with; several versions of the sources are all named."""
        return replace(
            self.origin, code=", ".join(dict.fromkeys(row["code"] for row in self.rows.values())) or self.origin.code
        )

    def __contains__(self, picture: str) -> bool:
        return picture in self.rows

    def add(self, picture: str, row: Row) -> None:
        """Write the row of a picture at once."""
        full = {"picture": picture, **vars(self.origin), **row}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(full) + "\n")
        self.rows[picture] = full
