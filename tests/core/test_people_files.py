"""Saved people: what was written comes back, nothing else is in the file, and any other file is refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from faceprivacy_core import weights
from faceprivacy_core.audit.files import audit_file
from faceprivacy_core.audit.secrets import Secrets
from faceprivacy_core.errors import InputError
from faceprivacy_core.faces.people import People
from faceprivacy_core.faces.people_files import FORMAT, MAX_BYTES, people_file, read_people
from faceprivacy_core.files import write_together
from tests.support.independent_reader import tensors_of

NAMES = ("sface", "mobilefacenet-v1")
HASHES = {name: weights.entry(name).sha256 for name in NAMES}


def _people(faces: int = 2, names: tuple[str, ...] = NAMES) -> People:
    random = torch.Generator().manual_seed(3)
    return People({name: torch.nn.functional.normalize(torch.randn(faces, 8, generator=random), dim=1) for name in names})


def _bytes(vectors: dict[str, torch.Tensor] | None = None, **metadata: str) -> bytes:
    header = {"format": FORMAT, "version": "1", "recognizers": json.dumps(HASHES)} | metadata
    return save(dict(_people().vectors) if vectors is None else vectors, header)


def _changed(name: str, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(_people().vectors) | {name: rows}


def test_saved_people_come_back_and_only_their_owner_may_read_them(tmp_path: Path):
    path = tmp_path / "a.fpperson"
    write_together([people_file(path, _people())], replace=False)
    found = read_people(path)
    assert len(found) == 2
    assert {name: rows.tolist() for name, rows in found.vectors.items()} == {
        name: rows.tolist() for name, rows in _people().vectors.items()
    }
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_a_file_holds_vectors_recognisers_and_their_weights_alone(tmp_path: Path):
    content = people_file(tmp_path / "anna.fpperson", _people()).content
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {"__metadata__", *NAMES}
    assert header["__metadata__"] == {"format": FORMAT, "version": "1", "recognizers": json.dumps(HASHES, sort_keys=True)}
    assert set(load(content)) == set(NAMES)
    assert b"anna" not in content


def test_a_program_written_from_the_document_reads_them():
    people = _people()
    metadata, tensors = tensors_of(people_file(Path("a.fpperson"), people).content)
    assert metadata["format"] == "faceprivacy-person"
    assert metadata["version"] == "1"
    assert json.loads(metadata["recognizers"]) == HASHES
    assert {name: rows.tolist() for name, rows in tensors.items()} == {name: v.tolist() for name, v in people.vectors.items()}


def test_vectors_are_never_shown():
    people = _people()
    assert str(people) == repr((people,))[1:-2] == "People()"


def test_an_audit_finds_a_saved_person_under_any_name(tmp_path: Path):
    for name in ("a.fpperson", "holiday.bin"):
        (tmp_path / name).write_bytes(people_file(tmp_path / name, _people()).content)
        assert [finding.kind for finding in audit_file(tmp_path / name, Secrets()).findings] == ["identity"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff\xe0 a photo",
        _bytes()[:-1],
        _bytes() + b"\0",
        _bytes(format="faceprivacy-inversion"),
        _bytes(version="2"),
        _bytes(recognizers="{"),
        _bytes(recognizers="[" * 10_000),
        _bytes(recognizers=json.dumps({"sface": HASHES["sface"]})),
        _bytes({}, recognizers="{}"),
        _bytes(_changed("sface", torch.zeros(2, 8))),
        _bytes(_changed("sface", torch.full((2, 8), float("nan")))),
        _bytes(_changed("sface", torch.eye(8)[:3])),
        _bytes(_changed("sface", torch.eye(8)[:2].double())),
        _bytes(_changed("sface", torch.eye(8)[0])),
        _bytes({name: torch.zeros(0, 8) for name in NAMES}),
        _bytes({name: torch.eye(4)[:1].repeat(2000, 1) for name in NAMES}),
        b"\0" * (MAX_BYTES + 1),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_another_or_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes):
    path = tmp_path / "a.fpperson"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a saved person, a\.fpperson is another file or a damaged one"):
        read_people(path)


@pytest.mark.parametrize(
    ("vectors", "hashes"),
    [
        (dict(_people().vectors), HASHES | {"sface": "0" * 64}),
        (dict(_people(names=("arcface",)).vectors), {"arcface": "0" * 64}),
    ],
)
def test_people_of_other_recognisers_are_refused_by_the_recognisers_name(
    tmp_path: Path, vectors: dict[str, torch.Tensor], hashes: dict[str, str]
):
    (tmp_path / "a.fpperson").write_bytes(_bytes(vectors, recognizers=json.dumps(hashes)))
    with pytest.raises(InputError, match=f"was made with another '{'sface' if 'sface' in hashes else 'arcface'}'"):
        read_people(tmp_path / "a.fpperson")


def test_what_is_not_there_or_a_folder_is_an_error(tmp_path: Path):
    for path in (tmp_path / "gone.fpperson", tmp_path):
        with pytest.raises(InputError, match="Expected a saved person at"):
            read_people(path)


def test_recognisers_of_others_are_not_saved(tmp_path: Path):
    with pytest.raises(InputError, match="recognisers of this pack"):
        people_file(tmp_path / "a.fpperson", _people(names=("arcface",)))
