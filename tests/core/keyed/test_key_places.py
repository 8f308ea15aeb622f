"""Where keys are found by their names, and how their files are kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from faceprivacy_core.errors import InputError, KeyNotFoundError, KeyUseError, WrongKeyError
from faceprivacy_core.keyed import key_names, keys
from faceprivacy_core.keyed.derivation import derive_face_key
from faceprivacy_core.keyed.keys import KeyKind, PrivacyKey, create_key, list_keys, load_key, save_face_key
from tests.support.known_keys import FAST, HEADER, LINE, NONCE, PASSPHRASE, RAW, assert_silent, face_bytes, write_private

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")

# Names

BAD_NAMES = [
    "", RAW.hex(), "my pass phrase!", "../up", "a/b", "a" * 65, "é", "name\n", "a.b", "dir", "Dir", 7, None,
    "con", "PRN", "aux", "Nul", "com1", "COM9", "lpt0",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_what_is_no_name_is_refused_and_never_repeated(name: str, tmp_path: Path):
    key = derive_face_key(RAW, NONCE, HEADER)
    for use in (
        lambda: load_key(name, folder=tmp_path, environ={}),
        lambda: create_key(name, tmp_path),
        lambda: save_face_key(name, key, HEADER, tmp_path),
        lambda: keys.key_place(name, folder=tmp_path, environ={}),
    ):
        with pytest.raises(InputError) as caught:
            use()
        assert str(caught.value) == key_names.BAD_NAME
    assert list(tmp_path.iterdir()) == []


def test_a_missing_key_says_both_places_and_what_to_do_but_not_the_name(tmp_path: Path):
    with pytest.raises(KeyNotFoundError, match="faceprivacy key new NAME") as caught:
        load_key("hunter2-SECRET", folder=tmp_path, environ={})
    assert "FACEPRIVACY_KEY_NAME" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "hunter2" not in str(caught.value).lower()


# Environment


@pytest.mark.parametrize("digits", [RAW.hex(), RAW.hex().upper()])
def test_sixty_four_digits_in_the_environment_are_a_raw_key(digits: str, tmp_path: Path):
    key = load_key("my_key_1", folder=tmp_path, environ={"FACEPRIVACY_KEY_MY_KEY_1": digits})
    assert (key.name, key.kind, key.public_id) == ("my_key_1", KeyKind.RAW, PrivacyKey.from_bytes(RAW).public_id)


@pytest.mark.parametrize("value", [RAW.hex()[:-1], RAW.hex() + "0", RAW.hex() + "\n", " " + RAW.hex(), PASSPHRASE])
def test_anything_else_in_the_environment_is_a_passphrase(value: str, tmp_path: Path):
    key = load_key("a", folder=tmp_path, environ={"FACEPRIVACY_KEY_A": value})
    assert key.kind is KeyKind.PASSPHRASE
    assert key.face_key(FAST, NONCE, HEADER).reveal() == face_bytes(value)


def test_the_environment_comes_before_the_folder(tmp_path: Path):
    create_key("a", tmp_path)
    variable = {"FACEPRIVACY_KEY_A": PASSPHRASE}
    assert load_key("a", folder=tmp_path, environ=variable).kind is KeyKind.PASSPHRASE
    assert load_key("a", folder=tmp_path, environ={}).kind is KeyKind.RAW
    assert keys.key_place("a", folder=tmp_path, environ=variable) == "environment variable FACEPRIVACY_KEY_A"
    assert keys.key_place("a", folder=tmp_path, environ={}) == str(tmp_path / "a.key")


def test_the_real_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path))
    create_key("a")
    assert list_keys() == ("a",)
    assert load_key("a").kind is KeyKind.RAW
    monkeypatch.setenv("FACEPRIVACY_KEY_A", PASSPHRASE)
    assert load_key("a").kind is KeyKind.PASSPHRASE


@pytest.mark.parametrize("name", ["my-key", "My_key", "MY-KEY"])
def test_a_variable_belongs_to_one_spelling_of_a_name(name: str, tmp_path: Path):
    environ = {"FACEPRIVACY_KEY_MY_KEY": RAW.hex()}
    assert load_key("my_key", folder=tmp_path, environ=environ).kind is KeyKind.RAW
    with pytest.raises(KeyNotFoundError, match="FACEPRIVACY_KEY_MY_KEY is set and stands for my_key alone"):
        load_key(name, folder=tmp_path, environ=environ)
    create_key(name, tmp_path)
    with pytest.raises(KeyNotFoundError, match="stands for my_key alone"):
        load_key(name, folder=tmp_path, environ=environ)
    assert load_key(name, folder=tmp_path, environ={}).name == name


@pytest.mark.parametrize("name", ["my_key", "My-Key", "MY-KEY"])
def test_two_keys_have_names_that_are_not_nearly_the_same(name: str, tmp_path: Path):
    create_key("my-key", tmp_path)
    face = derive_face_key(RAW, NONCE, HEADER)
    for make in (lambda: create_key(name, tmp_path), lambda: save_face_key(name, face, HEADER, tmp_path)):
        with pytest.raises(InputError, match="nearly the same"):
            make()
    assert list_keys(tmp_path) == ("my-key",)
    create_key("my-key-2", tmp_path)


# What a key may do


def test_a_server_may_decrypt_with_a_key_only_if_its_owner_says_so(tmp_path: Path):
    create_key("no", tmp_path)
    create_key("yes", tmp_path, decrypts_in_server=True)
    write_private(tmp_path / "old.key", LINE)
    save_face_key("face", derive_face_key(RAW, NONCE, HEADER), HEADER, tmp_path, decrypts_in_server=True)
    allowed = {name: load_key(name, folder=tmp_path, environ={}).decrypts_in_server for name in ("no", "yes", "old", "face")}
    assert allowed == {"no": False, "yes": True, "old": False, "face": True}
    load_key("yes", folder=tmp_path, environ={}).check_server_use()
    with pytest.raises(KeyUseError, match=r"got 'old', which may not.*faceprivacy key allow old`"):
        load_key("old", folder=tmp_path, environ={}).check_server_use()


@pytest.mark.parametrize(("listed", "allowed"), [("", False), ("b", False), ("ab", False), ("a", True), ("b, a", True)])
@pytest.mark.parametrize("value", [RAW.hex(), PASSPHRASE])
def test_keys_in_the_environment_are_allowed_by_a_variable(value: str, listed: str, allowed: bool, tmp_path: Path):
    environ = {"FACEPRIVACY_KEY_A": value, "FACEPRIVACY_DECRYPT_IN_SERVER": listed}
    assert load_key("a", folder=tmp_path, environ=environ).decrypts_in_server is allowed
    assert not load_key("a", folder=tmp_path, environ={"FACEPRIVACY_KEY_A": value}).decrypts_in_server


def test_what_a_key_may_do_can_be_changed_and_nothing_else_changes(tmp_path: Path):
    path = create_key("a", tmp_path)
    before = load_key("a", folder=tmp_path, environ={}).public_id
    for allowed in (True, False):
        keys.set_server_use("a", allowed, tmp_path)
        key = load_key("a", folder=tmp_path, environ={})
        assert (key.public_id, key.decrypts_in_server) == (before, allowed)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name != "posix"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyNotFoundError):
        keys.set_server_use("b", True, tmp_path)


def test_an_empty_variable_is_an_error_and_no_reason_to_look_elsewhere(tmp_path: Path):
    create_key("a", tmp_path)
    with pytest.raises(KeyNotFoundError, match="it is empty"):
        load_key("a", folder=tmp_path, environ={"FACEPRIVACY_KEY_A": ""})


def test_the_folder_is_among_the_users_settings_unless_a_variable_says_otherwise(tmp_path: Path):
    assert keys.key_folder({}).parts[-2:] == ("faceprivacy", "keys")
    assert keys.key_folder({"FACEPRIVACY_KEY_DIR": str(tmp_path)}) == tmp_path
    assert keys.key_folder({"FACEPRIVACY_KEY_DIR": ""}) == keys.key_folder({})


# Files


def test_a_new_key_opens_by_its_name_and_is_random(tmp_path: Path):
    paths = [create_key(name, tmp_path / "keys") for name in ("b", "a-1")]
    assert [path.name for path in paths] == ["b.key", "a-1.key"]
    assert list_keys(tmp_path / "keys") == ("a-1", "b")
    first, second = (load_key(name, folder=tmp_path / "keys", environ={}) for name in ("a-1", "b"))
    assert first.public_id != second.public_id
    assert first.public_id == load_key("a-1", folder=tmp_path / "keys", environ={}).public_id


def test_key_files_hold_what_the_generator_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keys.secrets, "token_bytes", lambda count: RAW[:count])
    text = create_key("a", tmp_path).read_text(encoding="utf-8")
    assert text.splitlines()[0].startswith("# Whoever has this file")
    assert text.splitlines()[1:] == [f"faceprivacy-key-1 {RAW.hex()}", "decrypt-in-server: no"]


def test_a_released_face_key_opens_by_its_name(tmp_path: Path):
    path = save_face_key("face", derive_face_key(RAW, NONCE, HEADER), HEADER, tmp_path)
    key = load_key("face", folder=tmp_path, environ={})
    assert key.kind is KeyKind.FACE
    assert key.face_key(None, NONCE, HEADER).reveal() == derive_face_key(RAW, NONCE, HEADER).reveal()
    with pytest.raises(WrongKeyError):
        key.face_key(None, NONCE, HEADER + b" ")
    path.write_text(path.read_text().splitlines()[1])  # as it was before headers were kept with it
    old = load_key("face", folder=tmp_path, environ={})
    assert old.face_key(None, bytes(16), b"").reveal() == derive_face_key(RAW, NONCE, HEADER).reveal()


@posix
def test_only_the_owner_can_use_a_new_key(tmp_path: Path):
    before = os.umask(0)
    try:
        path = create_key("a", tmp_path / "keys")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_key_is_never_overwritten(tmp_path: Path):
    content = create_key("a", tmp_path).read_bytes()
    for again in (
        lambda: create_key("a", tmp_path),
        lambda: save_face_key("a", derive_face_key(RAW, NONCE, b""), b"", tmp_path),
    ):
        with pytest.raises(InputError, match="not touched"):
            again()
    assert (tmp_path / "a.key").read_bytes() == content


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601, 0o777], ids=oct)
def test_a_key_that_others_may_use_is_refused_with_the_way_out(mode: int, tmp_path: Path):
    path = create_key("a", tmp_path)
    path.chmod(mode)
    with pytest.raises(KeyNotFoundError, match=r"chmod 600 '.*a\.key'"):
        load_key("a", folder=tmp_path, environ={})
    path.chmod(0o400)
    assert load_key("a", folder=tmp_path, environ={}).kind is KeyKind.RAW


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o1777], ids=oct)
def test_a_folder_that_others_may_change_is_refused_with_the_way_out(mode: int, tmp_path: Path):
    create_key("a", tmp_path / "keys")
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(KeyNotFoundError, match=r"chmod 700 '.*keys'"):
        load_key("a", folder=tmp_path / "keys", environ={})
    (tmp_path / "keys").chmod(0o755)
    assert load_key("a", folder=tmp_path / "keys", environ={}).kind is KeyKind.RAW


@posix
def test_a_key_or_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    create_key("a", tmp_path)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(KeyNotFoundError, match="belongs to another user"):
        load_key("a", folder=tmp_path, environ={})


@pytest.mark.parametrize(
    "content",
    [
        f"{LINE}\ndecrypt-in-server: yes\n", f"{LINE}\n# note\ndecrypt-in-server: no",
        LINE, LINE + "\n", f"# note\n\n{LINE}\n# end\n", f"# note\r\n{LINE}\r\n", LINE.replace(RAW.hex(), RAW.hex().upper()),
    ],
)  # fmt: skip
def test_comments_and_line_ends_do_not_matter(content: str, tmp_path: Path):
    write_private(tmp_path / "a.key", content)
    assert load_key("a", folder=tmp_path, environ={}).public_id == PrivacyKey.from_bytes(RAW).public_id


BAD_FILES = [
    "", "# only a comment\n", RAW.hex(), LINE + "0", LINE[:-1], " " + LINE, LINE + " ", f"{LINE}\n{LINE}", f"{LINE}\nhunter2",
    LINE.replace("-1 ", "-2 "), f"{LINE}\ndecrypt-in-server: maybe", f"{LINE}\ndecrypt-in-server: yes\ndecrypt-in-server: no",
    f"{LINE}\nheader: {RAW.hex()}", f"decrypt-in-server: yes\n{LINE}", f"{LINE}\ndecrypt-in-server: yes ",
    LINE.replace("-key", "-face-key") + "\nheader: 00",
    LINE.replace(" ", "  "), LINE.encode("utf-16"), b"\xff" + LINE.encode(), RAW,
    "# x\n" * 2000 + LINE, "hunter2 SECRET", LINE[:-1] + "g",
]  # fmt: skip


@pytest.mark.parametrize("content", BAD_FILES, ids=range(len(BAD_FILES)))
def test_other_files_are_refused_and_never_repeated(content: str | bytes, tmp_path: Path):
    write_private(tmp_path / "a.key", content)
    with pytest.raises(KeyNotFoundError, match="is none or damaged") as caught:
        load_key("a", folder=tmp_path, environ={})
    assert_silent(caught.value, [RAW.hex()[:20], repr(RAW)[2:12], "hunter2"])


@posix
def test_what_is_no_file_is_refused_at_once(tmp_path: Path):
    (tmp_path / "folder.key").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe.key", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(KeyNotFoundError, match="is none or damaged"):
            load_key(name, folder=tmp_path, environ={})
    (tmp_path / "loop.key").symlink_to(tmp_path / "loop.key")
    with pytest.raises(KeyNotFoundError, match="Expected to read"):
        load_key("loop", folder=tmp_path, environ={})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="Expected to make the folder"):
            create_key("a", folder)


def test_a_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys.os, "fsync", fsync)
    with pytest.raises(InputError, match="No space left"):
        create_key("a", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_list_holds_names_of_key_files_only(tmp_path: Path):
    for name in ("b.key", "a.key", "no name.key", "dir.key", "c.txt"):
        (tmp_path / name).write_text("")
    assert list_keys(tmp_path) == ("a", "b")
    assert list_keys(tmp_path / "missing") == ()


def test_a_name_is_taken_by_a_variable_or_by_anything_in_the_folder(tmp_path: Path):
    assert not keys.has_key("mine", folder=tmp_path, environ={})
    assert keys.has_key("mine", folder=tmp_path, environ={"FACEPRIVACY_KEY_MINE": ""})
    (tmp_path / "mine.key").write_bytes(b"damaged")
    assert keys.has_key("mine", folder=tmp_path, environ={})
