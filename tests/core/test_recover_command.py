"""`faceprivacy anonymize --save-inversion` and `faceprivacy recover` on a real picture with the real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.commands import main

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
PASSPHRASE = "hunter2-SECRET-correct-horse"
QUICK = ["--steps", "6", "--noise", "1.0", "--strength", "0", "--largest", "--look", "person"]
SAVE = ["--save-inversion", "--inversion-steps", "3"]

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def _keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder with the keys `alice` and `bob`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path_factory.mktemp("keys") / "inner"))
        assert main(["key", "new", "alice"]) == 0
        assert main(["key", "new", "bob"]) == 0
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "one.png"
    with Image.open(SAMPLES / "two_people.jpg") as picture:
        picture.resize((384, 240)).save(path)
    return path


@pytest.fixture(scope="module")
def protected(_keys: None, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(["anonymize", str(source), "--out", str(out), *QUICK, *SAVE, "--key", "alice"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["one.fpinv", "one.json", "one.png"]
    return out / "one.png"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_the_key_brings_the_face_back_and_the_rest_stays(protected: Path, source: Path, tmp_path: Path):
    assert main(["recover", str(protected), "--out", str(tmp_path), "--key", "alice"]) == 0
    original, shown, back = pixels(source), pixels(protected), pixels(tmp_path / "one.png")
    changed = (shown != original).any(axis=-1)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    outside = np.ones_like(changed)
    outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    assert outside.mean() > 0.5
    np.testing.assert_array_equal(back[outside], original[outside])

    def error(one: np.ndarray) -> float:
        return float(np.square(one[changed] - original[changed]).mean())

    assert error(back) < 0.5 * error(shown)
    with Image.open(tmp_path / "one.png") as written:
        assert not written.info


def test_another_key_or_none_writes_nothing(protected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for choice in (["--key", "bob"], []):
        assert main(["recover", str(protected), "--out", str(tmp_path), *choice]) == 1
        assert "sealed with, got another one or none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_picture_is_refused_unless_allowed(
    protected: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["recover", str(source), "--inversion", str(protected.with_suffix(".fpinv")), "--key", "alice"]
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    assert "--any-picture" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([*arguments, "--out", str(tmp_path), "--any-picture"]) == 0
    assert (tmp_path / "one.png").is_file()


def test_a_missing_inversion_is_named(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["recover", str(source), "--out", str(tmp_path)]) == 1
    assert "one.fpinv" in capsys.readouterr().err


def test_an_unprotected_file_needs_no_key_and_a_warning_is_printed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert main(["anonymize", str(source), "--out", str(out), *QUICK, *SAVE, "--unprotected"]) == 0
    assert "Whoever has the file has the face" in capsys.readouterr().err
    assert main(["recover", str(out / "one.png"), "--out", str(tmp_path / "back")]) == 0


def test_a_passphrase_is_asked_for_and_shown_nowhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    typed = iter([PASSPHRASE, PASSPHRASE, PASSPHRASE + " ", PASSPHRASE])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    out = tmp_path / "out"
    assert main(["anonymize", str(source), "--out", str(out), *QUICK, *SAVE, "--passphrase"]) == 0
    assert main(["recover", str(out / "one.png"), "--passphrase", "--out", str(tmp_path / "wrong")]) == 1
    assert main(["recover", str(out / "one.png"), "--passphrase", "--out", str(tmp_path / "right")]) == 0
    shown = capsys.readouterr()
    written = [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert all(PASSPHRASE not in text for text in (shown.out, shown.err, *written))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (["--save-inversion"], "if that is meant, say --unprotected"),
        (["--key", "alice"], "Expected --save-inversion together with"),
        (["--unprotected"], "Expected --save-inversion together with"),
        (["--save-inversion", "--key", "gone"], "Expected a key of this name"),
    ],
)
@pytest.mark.usefixtures("_keys")
def test_an_unclear_choice_stops_before_any_work(
    source: Path, tmp_path: Path, choice: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["anonymize", str(source), "--out", str(tmp_path / "out"), *choice]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
