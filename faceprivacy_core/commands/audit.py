"""`faceprivacy audit`: say whether files carry keys, prompts, places, names, devices or hidden pictures."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .console import say
from .telling import in_number

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".dib", ".avif",
    ".heic", ".heif", ".hif", ".json", ".fprv", ".fpinv", ".fpperson", ".key",
)  # fmt: skip
"""Files of a folder that are looked at; a file that is named is looked at whatever its suffix is. Pictures that cannot be
audited are among them: they are a problem, not silence."""
MAX_KEY_FILE_BYTES = 2**16
PROBLEM = (
    "Expected a whole picture, workflow or sidecar, this one cannot be audited ({problems}). Do not take it for clean: "
    "open it in another program, save it anew and audit that."
)


def add_parser(commands: Any) -> None:
    """Add `audit` to the command line."""
    parser = commands.add_parser(
        "audit",
        help="say what pictures, workflows and sidecars give away",
        description="Says what pictures, workflows and sidecars give away: keys, prompts, places, names, devices, hidden "
        "pictures. No value is ever shown. Exit status: 0 at most notes, 1 something secret or personal, 2 not all was read.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE|FOLDER", help="files, or folders with all in them")
    parser.add_argument("--json", action="store_true", help="write one JSON document instead of lines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Audit all files and say every finding, one a line; problems go to the error stream.

    Returns:
        2 when something could not be read, else 1 when something secret or personal was found, else 0.
    """
    from ..audit.files import audit_file
    from ..audit.findings import KINDS, NOTE

    logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it says about a damaged file may quote the file
    audit = _Audit(show_lines=not options.json)
    levels: Counter[str] = Counter()
    files: list[dict[str, Any]] = []
    for path in audit.files_in(options.paths):
        report = audit_file(path, audit.secrets)
        name = audit.shown(path)
        problem = PROBLEM.format(problems=", ".join(report.problems)) if report.problems else None
        findings = []
        for finding in report.findings:
            level, what, advice = KINDS[finding.kind]
            levels[level] += 1
            what = f"{what}: {finding.detail}" if finding.detail else what
            audit.line(f"{level:<8}  {name}: {what} ({finding.where}). {advice}")
            findings.append({"level": level, "kind": finding.kind, "what": what, "where": finding.where, "advice": advice})
        if problem:
            audit.problem(f"{name}: {problem}", is_listed=False)
        if options.json:
            files.append({"file": name, "findings": findings, "problem": problem})
        audit.count += 1
    status = 2 if audit.has_problem else int(any(count for level, count in levels.items() if level != NOTE))
    if options.json:
        document = {"files": files, "problems": audit.problems, "not_looked_at": audit.passed_over, "status": status}
        say(json.dumps(document, indent=1))
    found = ", ".join(f"{levels[level]} {level}" for level in ("secret", "personal", "note"))
    audit.line(f"{in_number(audit.count, 'file')}: {found}. Other files that were not looked at: {audit.passed_over}.")
    return status


class _Audit:
    """One run: the secrets to search for, what was passed over, and what went wrong."""

    def __init__(self, *, show_lines: bool) -> None:
        from ..audit.secrets import Secrets

        self.show_lines = show_lines
        self.count = self.passed_over = 0
        self.has_problem = False
        self.problems: list[str] = []
        self.secrets = Secrets()  # so that a problem with a key file can be said
        self.secrets = Secrets(self._known_values())

    def line(self, text: str) -> None:
        if self.show_lines:
            say(text)

    def problem(self, text: str, *, is_listed: bool = True) -> None:
        self.has_problem = True
        if is_listed:
            self.problems.append(text)
        if self.show_lines:
            say(text, sys.stderr)

    def shown(self, path: Path) -> str:
        """Return a path as it can be shown: without control characters, and without a key that is used as a name."""
        parts = ["(hidden)" if self.secrets.names_in_text(part) else part for part in path.parts]
        text = str(Path(*parts))
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

    def files_in(self, paths: list[Path]) -> Iterator[Path]:
        """Yield the named files and those below the named folders; no link leads out of a folder."""
        for path in paths:
            if not path.is_dir():
                yield path
                continue
            root = path.resolve()
            for folder, folders, names in os.walk(path, onerror=self._folder_problem):
                folders.sort()
                self.passed_over += sum(not _is_inside(Path(folder, name), root) for name in folders)
                for file in (Path(folder, name) for name in sorted(names)):
                    if file.suffix.lower() not in SUFFIXES or not _is_inside(file, root):
                        self.passed_over += 1
                    else:
                        yield file

    def _folder_problem(self, error: OSError) -> None:
        self.problem(f"Expected to read the folder {self.shown(Path(str(error.filename)))}, got: {error.strerror}.")

    def _known_values(self) -> Iterator[tuple[str, str]]:
        """Yield the keys of the environment and of the folder of keys, each under a name that may be shown."""
        from ..keyed import key_names, keys  # the cryptography library is loaded only by a command that needs it

        for variable, value in sorted(os.environ.items()):
            if variable.startswith(key_names.VARIABLE_PREFIX) and variable != keys.FOLDER_VARIABLE:
                yield f"variable {variable}", value
        folder = keys.key_folder()
        for path in sorted(folder.glob("*" + keys.KEY_SUFFIX)):
            values = _key_file_values(path)
            if not values:
                self.problem(
                    f"Expected a key file made by `faceprivacy key new`, {self.shown(path)} cannot be read as one. No file "
                    "was searched for what it holds. Repair it or move it elsewhere."
                )
            for value in values:
                yield f"key file {self.shown(Path(path.stem))}", value


def _key_file_values(path: Path) -> list[str]:
    from ..audit.secrets import HEX_KEY, KEY_LINE

    try:
        if not path.is_file():
            return []
        with path.open("rb") as opened:
            content = opened.read(MAX_KEY_FILE_BYTES)
    except OSError:
        return []
    return [digits for line in KEY_LINE.findall(content) for digits in HEX_KEY.findall(line.decode("ascii"))]


def _is_inside(path: Path, root: Path) -> bool:
    """Tell whether a link stays below the root; what is no link does."""
    try:
        return not path.is_symlink() or path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # a dead link, or one that leads to itself
        return False
