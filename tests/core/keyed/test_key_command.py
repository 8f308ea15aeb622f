"""`faceprivacy key`: makes, lists and describes keys, and never shows one."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from faceprivacy_core.commands import key, main
from faceprivacy_core.errors import InputError, KeyNotFoundError
from faceprivacy_core.keyed import keys

RAW = bytes(range(32))


def run(*words: str) -> int:
    """Run `faceprivacy key ...` through its own parser."""
    parser = argparse.ArgumentParser()
    key.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["key", *words])
    return options.run(options)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of keys that every command uses."""
    monkeypatch.setenv(keys.FOLDER_VARIABLE, str(tmp_path / "keys"))
    return tmp_path / "keys"


def test_new_list_and_show_agree_and_show_no_key(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(keys.secrets, "token_bytes", lambda _: RAW)
    assert run("new", "studio") == 0
    assert str(folder / "studio.key") in capsys.readouterr().out
    assert run("list") == 0
    assert capsys.readouterr().out == "studio\n"
    assert run("show", "studio") == 0
    shown = f"studio: raw key, id 14abe1e2, from {folder / 'studio.key'}\ndecrypt in the server: no\n"
    assert capsys.readouterr().out == shown
    assert RAW.hex() in (folder / "studio.key").read_text()


def test_new_says_to_keep_a_copy_and_not_the_key(folder: Path, capsys: pytest.CaptureFixture):
    run("new", "studio")
    said = capsys.readouterr().out
    assert "Keep a copy" in said
    assert (folder / "studio.key").read_text().split("faceprivacy-key-1 ")[1][:64] not in said


@pytest.mark.parametrize(
    ("answer", "allowed"), [("yes", "yes"), ("Y ", "yes"), ("", "no"), ("no", "no"), ("yesterday", "no"), (None, "no")]
)
def test_a_new_key_is_asked_what_it_may_do(
    answer: str | None, allowed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr("sys.stdin.isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    run("new", "studio")
    run("show", "studio")
    assert f"decrypt in the server: {allowed}\n" in capsys.readouterr().out


def test_what_a_key_may_do_can_be_given_and_changed(capsys: pytest.CaptureFixture):
    run("new", "studio", "--decrypt-in-server", "yes")
    for allowed in ("no", "yes"):
        run("allow", "studio", "--decrypt-in-server", allowed)
        capsys.readouterr()
        run("show", "studio")
        assert f"decrypt in the server: {allowed}\n" in capsys.readouterr().out
    with pytest.raises(KeyNotFoundError):
        run("allow", "nobody", "--decrypt-in-server", "yes")


TYPED = [
    ["encrypt", "a.jpg", "--out", "x", "--passphrase", "hunter2"],
    ["encrypt", "--passphrase", "hunter2", "a.jpg", "--out", "x"],
    ["decrypt", "a.png", "--passphrase=hunter2", "--out", "x"], ["decrypt", "a.png", "--pass", "hunter2", "--out", "x"],
    ["decrypt", "a.png", "--p", "hunter2", "--out", "x"],
    ["recover", "a.png", "--out", "x", "--passphrase", "hunter2", "--device", "cpu"],
    ["release", "a.png", "--face", "0", "--as", "n", "--passphrase", "hunter2"],
]  # fmt: skip


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_a_passphrase_on_the_command_line_is_refused_and_not_repeated(words: list[str], capsys: pytest.CaptureFixture):
    assert main(words) == 1
    said = "".join(capsys.readouterr())
    assert "choose another" in said
    assert "hunter2" not in said


def test_another_folder_can_be_named(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture):
    assert run("new", "studio", "--in", str(tmp_path / "other")) == 0
    assert run("show", "studio", "--in", str(tmp_path / "other")) == 0
    assert not folder.exists()
    capsys.readouterr()
    assert run("list") == 0
    assert capsys.readouterr().out == f"No keys in {folder}. Make one with: faceprivacy key new NAME\n"


def test_a_passphrase_in_the_environment_is_described_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("FACEPRIVACY_KEY_HOME", "hunter2 SECRET")
    assert run("show", "home") == 0
    said = capsys.readouterr().out
    assert said.startswith("home: passphrase, id passphrase, from environment variable FACEPRIVACY_KEY_HOME\n")
    assert "SECRET" not in said


def test_refusals_are_errors_with_a_reason():
    with pytest.raises(KeyNotFoundError, match="faceprivacy key new NAME"):
        run("show", "nobody")
    with pytest.raises(InputError, match="Expected the name of a key"):
        run("new", "my pass phrase")
    run("new", "studio")
    with pytest.raises(InputError, match="not touched"):
        run("new", "studio")


def test_an_action_is_needed(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        run()
    assert "ACTION" in capsys.readouterr().err


def test_the_parser_alone_does_not_load_the_cryptography_library():
    code = "import sys; import faceprivacy_core.commands.key; assert not {'cryptography', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
