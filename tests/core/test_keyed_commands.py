"""`faceprivacy encrypt`, `decrypt`, `inspect` and `release` on real pictures with the real model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.commands import main
from faceprivacy_core.keyed.files import read_keyed, write_png

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
PASSPHRASE = "hunter2-SECRET-correct-horse"

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the keys `alice` and `bob`."""
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPRIVACY_KEY_DIR", str(folder / "inner"))
        assert main(["key", "new", "alice"]) == 0
        assert main(["key", "new", "bob"]) == 0
        yield folder / "inner"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, 512 x 320, with an alpha channel that is not opaque everywhere."""
    path = tmp_path_factory.mktemp("source") / "two.png"
    with Image.open(SAMPLES / "two_people.jpg") as picture:
        small = picture.resize((512, 320)).convert("RGBA")
    alpha = np.full((320, 512), 255, np.uint8)
    alpha[:20] = 40
    small.putalpha(Image.fromarray(alpha))
    small.save(path)
    return path


@pytest.fixture(scope="module")
def encrypted(keys: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    arguments = ["--mode", "exact", "--steps", "6", "--sidecar", "--key", "alice"]
    assert main(["encrypt", str(source), "--out", str(out), *arguments]) == 0
    return out / "two.png"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_key_brings_every_byte_back(encrypted: Path, source: Path, tmp_path: Path):
    assert not np.array_equal(pixels(encrypted), pixels(source))
    assert np.array_equal(pixels(encrypted)[..., 3], pixels(source)[..., 3])
    assert main(["decrypt", str(encrypted), "--out", str(tmp_path), "--key", "alice"]) == 0
    assert np.array_equal(pixels(tmp_path / "two.png"), pixels(source))


def test_changed_transparency_brings_nothing_back(
    encrypted: Path, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shown, container = read_keyed(encrypted)
    shown[5, 5, 3] ^= 1
    write_png(tmp_path / "two.png", shown, container)
    assert main(["decrypt", str(tmp_path / "two.png"), "--out", str(tmp_path / "back"), "--key", "alice"]) == 1
    release = ["release", str(tmp_path / "two.png"), "--face", "0", "--key", "alice", "--as", "given", "--in", str(tmp_path)]
    assert main(release) == 1
    assert capsys.readouterr().err.count("changed") >= 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["back", "two.png"]


def test_the_sidecar_does_the_same_for_a_stripped_picture(encrypted: Path, source: Path, tmp_path: Path):
    Image.fromarray(pixels(encrypted)).save(tmp_path / "two.png")
    (tmp_path / "two.fprv").write_bytes(encrypted.with_suffix(".fprv").read_bytes())
    assert main(["decrypt", str(tmp_path / "two.png"), "--out", str(tmp_path / "open"), "--key", "alice"]) == 0
    assert np.array_equal(pixels(tmp_path / "open" / "two.png"), pixels(source))


def test_another_key_writes_nothing(encrypted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["decrypt", str(encrypted), "--out", str(tmp_path), "--key", "bob"]) == 1
    assert "another one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_released_key_opens_one_face(encrypted: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    release = ["release", str(encrypted), "--face", "1", "--as", "carol"]
    assert main([*release, "--key", "bob"]) == 1
    assert main([*release, "--key", "alice"]) == 0
    assert main(["decrypt", str(encrypted), "--out", str(tmp_path), "--key", "carol"]) == 0
    assert "opened 1 of 2 faces: 1" in capsys.readouterr().out
    shown, original = pixels(tmp_path / "two.png"), pixels(source)
    assert np.array_equal(shown[:, 256:], original[:, 256:])
    assert not np.array_equal(shown[:, :256], original[:, :256])


def test_inspect_needs_no_key(encrypted: Path, capsys: pytest.CaptureFixture[str]):
    for path in (encrypted, encrypted.with_suffix(".fprv")):
        assert main(["inspect", str(path), "--json"]) == 0
        (faces,) = json.loads(capsys.readouterr().out).values()
        assert [face["mode"] for face in faces] == ["exact", "exact"]
    assert main(["inspect", str(SAMPLES / "portrait.jpg")]) == 1
    assert "Expected a keyed payload" in capsys.readouterr().err


def test_a_passphrase_is_asked_for_and_shown_nowhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    typed = iter([PASSPHRASE, PASSPHRASE, PASSPHRASE + " ", PASSPHRASE])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    arguments = ["--passphrase", "--out"]
    assert main(["encrypt", str(source), *arguments, str(tmp_path), "--mode", "latent", "--steps", "4", "--largest"]) == 0
    written = tmp_path / "two.png"
    assert main(["decrypt", str(written), *arguments, str(tmp_path / "wrong")]) == 1
    assert main(["decrypt", str(written), *arguments, str(tmp_path / "right")]) == 0
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, written.read_bytes().decode("latin-1")):
        assert PASSPHRASE not in text


def test_two_different_passphrases_are_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    typed = iter(["one passphrase", "two passphrases"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    assert main(["encrypt", str(source), "--passphrase", "--out", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_key_is_said_before_any_work(keys: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["encrypt", str(source), "--key", "nobody", "--out", str(tmp_path / "new")]) == 1
    assert "faceprivacy key new" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_picture_that_carries_sealed_faces_is_not_encrypted_again(
    encrypted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Inside the picture or beside it: the new one would have no room for them."""
    Image.fromarray(pixels(encrypted)).save(tmp_path / "two.png")
    (tmp_path / "two.fprv").write_bytes(encrypted.with_suffix(".fprv").read_bytes())
    for path in (encrypted, tmp_path / "two.png"):
        assert main(["encrypt", str(path), "--out", str(tmp_path / "new"), "--key", "alice", "--mode", "exact"]) == 1
        assert "carries some, which would be lost" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_a_picture_that_is_replaced_takes_its_sidecar_along(keys: Path, source: Path, tmp_path: Path):
    """One that stayed behind would be of the picture before: stripped, the new one could not be opened with it."""
    arguments = ["encrypt", str(source), "--out", str(tmp_path), "--mode", "exact", "--steps", "2", "--key"]
    assert main([*arguments, "alice", "--sidecar"]) == 0
    before = (tmp_path / "two.fprv").read_bytes()
    assert main([*arguments, "bob", "--force"]) == 0
    assert (tmp_path / "two.fprv").read_bytes() != before
    Image.fromarray(pixels(tmp_path / "two.png")).save(tmp_path / "two.png")
    assert main(["decrypt", str(tmp_path / "two.png"), "--out", str(tmp_path / "back"), "--key", "bob"]) == 0
    assert np.array_equal(pixels(tmp_path / "back" / "two.png"), pixels(source))


def test_results_that_are_there_are_kept(encrypted: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sealed = encrypted.read_bytes()
    assert main(["encrypt", str(source), "--out", str(encrypted.parent), "--key", "alice", "--mode", "exact"]) == 1
    assert "--force" in capsys.readouterr().err
    assert encrypted.read_bytes() == sealed
    (tmp_path / "two.png").write_bytes(b"mine")
    decrypt = ["decrypt", str(encrypted), "--out", str(tmp_path), "--key", "alice"]
    assert main(decrypt) == 1
    assert (tmp_path / "two.png").read_bytes() == b"mine"
    assert main([*decrypt, "--force"]) == 0
    assert np.array_equal(pixels(tmp_path / "two.png"), pixels(source))


def test_opening_some_faces_says_where_the_others_are(encrypted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["decrypt", str(encrypted), "--out", str(tmp_path), "--key", "alice", "--face", "0"]) == 0
    assert "Keep two.png: its other 1 sealed faces" in capsys.readouterr().out
    if os.name == "posix":
        assert (tmp_path / "two.png").stat().st_mode & 0o777 == 0o600
