"""Which pictures a run takes, where their results go, and what becomes of every other file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".avif",
    ".heic", ".heif", ".hif",
)  # fmt: skip
"""Files of a folder that are pictures; those of them that cannot be read are refused, not passed over."""

CLIP_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".3gp", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".wmv")
"""Files that are clips; taken where they are named one by one, for one takes as long as many pictures."""

NO_CLIPS = (
    "Expected a picture, this is a clip, and of clips only `faceprivacy anonymize` (without --dry-run) makes one. Cloaked or "
    "hidden anew in every frame, one frame that fails gives the person away; and a lossy clip keeps no sealed face."
)

HIDDEN = "."
"""Hidden files are no pictures of anybody: `._*` of macOS, thumbnails, and parts of this program."""


@dataclass
class Plan:
    """What a run will do.

    Attributes:
        pictures: Files to read, in order.
        below: Subfolder of the results for pictures that were found in subfolders.
        refused: Files that will not be written, with the reason.
        passed_over: Further files of the folders, with the reason.
    """

    pictures: list[Path] = field(default_factory=list)
    below: dict[Path, Path] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)

    def target(self, path: Path, out: Path) -> Path:
        """Return the path of a picture's results without their endings."""
        return out / self.below.get(path, Path()) / path.stem


def make_plan(inputs: Sequence[Path], out: Path, *, recursive: bool = False, clips: bool = False) -> Plan:
    """Account for every file of the given files and folders.

    Args:
        inputs: Pictures, taken whatever they are called, and folders.
        out: Folder for the results.
        recursive: Take the subfolders of folders, too; their results keep their places.
        clips: Take clips that are named one by one; otherwise they are refused.

    Raises:
        InputError: A path does not exist, or there is no picture at all.
    """
    plan = Plan()
    for path in inputs:
        if path.is_dir():
            _take_folder(path, Path(), out, plan, recursive=recursive)
        elif os.path.lexists(path):
            plan.pictures.append(path)
        else:
            raise InputError(f"Expected a picture or a folder, found nothing at {path}.")
    plan.pictures = list(dict.fromkeys(plan.pictures))
    if not plan.pictures:
        others = f" Files passed over: {len(plan.passed_over)}." if plan.passed_over else ""
        raise InputError(f"Expected at least one picture ({', '.join(SUFFIXES)}), found none in the given folders.{others}")
    plan.refused |= check_outputs(plan.pictures, out, plan.below)
    plan.refused |= {path: NO_CLIPS for path in plan.pictures if is_clip(path) and not clips}
    return plan


def is_clip(path: Path) -> bool:
    """Tell by its ending whether a file counts as a clip."""
    return path.suffix.lower() in CLIP_SUFFIXES


def check_outputs(pictures: Sequence[Path], out: Path, below: Mapping[Path, Path] | None = None) -> dict[Path, str]:
    """Find pictures whose results would overwrite each other or an original.

    Args:
        pictures: All of a run.
        out: Folder for the results.
        below: Subfolders of it for some of them.

    Returns:
        The reason for every picture that must not be written; time grows with their number.
    """
    below = {} if below is None else below
    folders: dict[Path, str] = {}

    def place(folder: Path) -> str:
        if folder not in folders:
            folders[folder] = os.path.normcase(os.path.realpath(folder))
        return folders[folder]

    originals = {(place(path.parent), os.path.normcase(path.name)) for path in pictures}
    owners: dict[tuple[str, str], list[Path]] = {}
    reasons: dict[Path, str] = {}
    for path in pictures:
        folder = place(out / below.get(path, Path()))
        # Names that differ in capitals only are one file on Windows and macOS.
        owners.setdefault((folder, path.stem.casefold()), []).append(path)
        if (folder, os.path.normcase(f"{path.stem}.png")) in originals:
            reasons[path] = f"Expected another folder than that of the originals, or {path.stem}.png would be overwritten."
    for sharing in owners.values():
        for path in sharing if len(sharing) > 1 else ():
            others = ", ".join(other.name for other in sharing if other is not path)
            reasons[path] = (
                f"Expected pictures with different names, its result would overwrite that of {others}. Process them apart."
            )
    return reasons


def _take_folder(folder: Path, below: Path, out: Path, plan: Plan, *, recursive: bool) -> None:
    for path in _entries(folder, plan):
        is_link = path.is_symlink()
        if path.is_dir():
            if is_link:
                plan.passed_over.append((path, "a link to a folder"))
            elif not recursive:
                plan.passed_over.append((path, "a folder; say --recursive to take it, too"))
            elif os.path.realpath(path) != os.path.realpath(out):
                _take_folder(path, below / path.name, out, plan, recursive=True)
        elif is_clip(path):
            plan.passed_over.append((path, "a clip; name it itself to take it, too"))
        elif path.suffix.lower() not in SUFFIXES:
            plan.passed_over.append((path, "no picture"))
        else:
            plan.pictures.append(path)
            if below != Path():
                plan.below[path] = below


def _entries(folder: Path, plan: Plan) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        plan.refused[folder] = f"Expected to read this folder, got: {error.strerror}."
        return
    yield from (folder / name for name in names if not name.startswith(HIDDEN))
