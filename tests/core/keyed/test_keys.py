"""Keys by name: handles that show nothing, and where keys are found and kept."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
import stat
import traceback
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from faceprivacy_core.errors import FacePrivacyError, InputError, KeyNotFoundError, WrongKeyError
from faceprivacy_core.keyed import derivation, keys
from faceprivacy_core.keyed.derivation import KdfParameters, derive_face_key
from faceprivacy_core.keyed.keys import KeyKind, PrivacyKey, create_key, list_keys, load_key, save_face_key
from faceprivacy_core.keyed.sealing import seal, unseal

RAW = bytes(range(100, 132))
NONCE = b"\x01" * 16
HEADER = b"{}"
FAST = KdfParameters(bytes(16), 2**14)
PASSPHRASE = "hunter2 SECRET"
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")


def all_kinds(name: str = "") -> list[PrivacyKey]:
    return [
        PrivacyKey.from_bytes(RAW, name), PrivacyKey.from_passphrase(PASSPHRASE, name), PrivacyKey.from_face_key(RAW, name),
    ]  # fmt: skip


def face_bytes(text: str) -> bytes:
    """Key of one face under a passphrase."""
    return PrivacyKey.from_passphrase(text).face_key(FAST, NONCE, HEADER).reveal()


def write_private(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


# Handles


def test_handles_show_name_and_public_id_only():
    secrets = [RAW.hex(), repr(RAW)[2:-1], PASSPHRASE, face_bytes(PASSPHRASE).hex()]
    for key in all_kinds("studio"):
        key.face_key(FAST if key.kind is KeyKind.PASSPHRASE else None, NONCE, HEADER)
        shown = [repr(key), str(key), f"{key}", f"{key:>60}", repr([key]), traceback.format_exception_only(ValueError(key))[0]]
        shown += [repr(getattr(key, name)) for name in dir(key)]
        for text in shown:
            assert not [secret for secret in secrets if secret in text]
        assert "studio" in repr(key)
        assert key.public_id in repr(key)


def test_handles_are_not_stored_copied_or_taken_apart():
    for key in all_kinds():
        for unwanted in (
            pickle.dumps, json.dumps, vars, list, bytes, len, lambda key: key.__getstate__(), lambda key: key.__reduce__(),
            lambda key: key.__reduce_ex__(2),
        ):  # fmt: skip
            with pytest.raises(TypeError):
                unwanted(key)
        assert copy.copy(key) is key
        assert copy.deepcopy({"key": key})["key"] is key
        with pytest.raises(AttributeError):
            key.name = "other"
    first, second = PrivacyKey.from_bytes(RAW), PrivacyKey.from_bytes(RAW)
    assert first != second
    assert len({first, second, first}) == 2


def test_public_ids_tell_keys_apart_and_say_nothing_about_a_passphrase():
    raw, passphrase, face = all_kinds()
    assert raw.public_id == PrivacyKey.from_bytes(RAW).public_id != PrivacyKey.from_bytes(RAW[::-1]).public_id
    assert len(raw.public_id) == 8
    assert set(raw.public_id) <= set("0123456789abcdef")
    assert passphrase.public_id == PrivacyKey.from_passphrase("another").public_id == "passphrase"
    assert face.public_id == f"face-{raw.public_id}"
    assert PrivacyKey.from_bytes(bytes(range(32))).public_id == "14abe1e2", "frozen: ids are written down by people"


def test_a_raw_key_derives_as_documented_and_takes_no_scrypt_parameters():
    key = PrivacyKey.from_bytes(RAW)
    assert key.new_kdf() is None
    assert key.face_key(None, NONCE, HEADER).reveal() == derive_face_key(RAW, NONCE, HEADER).reveal()
    with pytest.raises(WrongKeyError):
        key.face_key(FAST, NONCE, HEADER)


def test_a_passphrase_needs_scrypt_parameters():
    key = PrivacyKey.from_passphrase(PASSPHRASE)
    first, second = key.new_kdf(), key.new_kdf()
    assert first is not None
    assert second is not None
    assert first.salt != second.salt
    assert first.n == 2**17
    with pytest.raises(WrongKeyError):
        key.face_key(None, NONCE, HEADER)


def test_a_released_face_key_is_the_same_for_every_face():
    key = PrivacyKey.from_face_key(RAW)
    assert key.new_kdf() is None
    for kdf in (None, FAST):
        for nonce in (NONCE, bytes(16)):
            assert key.face_key(kdf, nonce, HEADER).reveal() == RAW


def test_a_batch_costs_one_scrypt(monkeypatch: pytest.MonkeyPatch):
    calls: list[KdfParameters] = []

    def derive_root(_: bytes, kdf: KdfParameters) -> bytes:
        calls.append(kdf)
        return RAW

    monkeypatch.setattr(keys, "derive_root", derive_root)
    key = PrivacyKey.from_passphrase(PASSPHRASE)
    faces = [key.face_key(KdfParameters(bytes(16)), bytes([index]) * 16, HEADER).reveal() for index in range(20)]
    assert len(set(faces)) == 20
    assert len(calls) == 1
    key.face_key(KdfParameters(b"\x01" * 16), NONCE, HEADER)
    assert len(calls) == 2


def test_both_spellings_of_an_accent_are_one_passphrase():
    text = "Ångström naïve"
    spellings = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert len(spellings) == 2
    assert len({face_bytes(spelling) for spelling in spellings}) == 1
    assert face_bytes("ﬁle") == face_bytes("file")


def test_a_passphrase_must_match_in_every_letter_capital_and_space():
    key = PrivacyKey.from_passphrase(PASSPHRASE).face_key(FAST, NONCE, HEADER)
    blob = seal(key, HEADER, b"face", b"")
    others = ["hunter3 SECRET", "Hunter2 SECRET", "hunter2 SECRET ", " hunter2 SECRET", "hunter2  SECRET", "hunter2SECRET"]
    for other in others:
        with pytest.raises(WrongKeyError):
            unseal(PrivacyKey.from_passphrase(other).face_key(FAST, NONCE, HEADER), HEADER, blob, b"")
    assert unseal(PrivacyKey.from_passphrase(PASSPHRASE).face_key(FAST, NONCE, HEADER), HEADER, blob, b"") == b"face"


@pytest.mark.parametrize(
    "make",
    [
        lambda: PrivacyKey.from_passphrase(""),
        lambda: PrivacyKey.from_passphrase("abc\ud800"),
        lambda: PrivacyKey.from_passphrase(b"bytes"),
        lambda: PrivacyKey.from_bytes(RAW[:-1]),
        lambda: PrivacyKey.from_bytes(RAW.hex()),
        lambda: PrivacyKey.from_face_key(RAW + b"x"),
        lambda: PrivacyKey.from_bytes(RAW, "no/name"),
        lambda: PrivacyKey.from_bytes(RAW).face_key(None, b"short", HEADER),
    ],
)
def test_unfit_keys_are_refused(make: Callable[[], object]):
    with pytest.raises(InputError, match="Expected") as caught:
        make()
    assert_silent(caught.value, ["abc", "bytes'", RAW.hex(), repr(RAW[:-1])[2:-1], "no/name"], in_traceback=False)


# Names

BAD_NAMES = ["", RAW.hex(), "my pass phrase!", "../up", "a/b", "a" * 65, "é", "name\n", "a.b", "dir", "Dir", 7, None]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_what_is_no_name_is_refused_and_never_repeated(name: str, tmp_path: Path):
    key = derive_face_key(RAW, NONCE, HEADER)
    for use in (
        lambda: load_key(name, folder=tmp_path, environ={}),
        lambda: create_key(name, tmp_path),
        lambda: save_face_key(name, key, tmp_path),
        lambda: keys.key_place(name, folder=tmp_path, environ={}),
    ):
        with pytest.raises(InputError) as caught:
            use()
        assert str(caught.value) == keys._BAD_NAME
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
    key = load_key("my-Key_1", folder=tmp_path, environ={"FACEPRIVACY_KEY_MY_KEY_1": digits})
    assert (key.name, key.kind, key.public_id) == ("my-Key_1", KeyKind.RAW, PrivacyKey.from_bytes(RAW).public_id)


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
    assert text.splitlines()[1:] == [f"faceprivacy-key-1 {RAW.hex()}"]


def test_a_released_face_key_opens_by_its_name(tmp_path: Path):
    save_face_key("face", derive_face_key(RAW, NONCE, HEADER), tmp_path)
    key = load_key("face", folder=tmp_path, environ={})
    assert key.kind is KeyKind.FACE
    assert key.face_key(None, bytes(16), b"").reveal() == derive_face_key(RAW, NONCE, HEADER).reveal()


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
    for again in (lambda: create_key("a", tmp_path), lambda: save_face_key("a", derive_face_key(RAW, NONCE, b""), tmp_path)):
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


LINE = f"faceprivacy-key-1 {RAW.hex()}"


@pytest.mark.parametrize(
    "content",
    [
        LINE, LINE + "\n", f"# note\n\n{LINE}\n# end\n", f"# note\r\n{LINE}\r\n", LINE.replace(RAW.hex(), RAW.hex().upper()),
    ],
)  # fmt: skip
def test_comments_and_line_ends_do_not_matter(content: str, tmp_path: Path):
    write_private(tmp_path / "a.key", content)
    assert load_key("a", folder=tmp_path, environ={}).public_id == PrivacyKey.from_bytes(RAW).public_id


BAD_FILES = [
    "", "# only a comment\n", RAW.hex(), LINE + "0", LINE[:-1], " " + LINE, LINE + " ", f"{LINE}\n{LINE}", f"{LINE}\nhunter2",
    LINE.replace("-1 ", "-2 "), LINE.replace(" ", "  "), LINE.encode("utf-16"), b"\xff" + LINE.encode(), RAW,
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


# Silence


def assert_silent(error: BaseException, secrets: list[str], *, in_traceback: bool = True) -> None:
    """No error of the chain carries a secret, in its text, its attributes or its traceback."""
    while error is not None:
        carried = [str(error), repr(error), repr(error.args), repr(vars(error))]
        carried += [repr(getattr(error, name, "")) for name in ("object", "reason", "filename", "doc")]
        if in_traceback:
            carried += traceback.format_exception(error)
        assert not [secret for secret in secrets for text in carried if secret in text]
        error = error.__cause__ or error.__context__


def test_errors_carry_neither_key_nor_passphrase_nor_plaintext(tmp_path: Path):
    raw, passphrase, released = all_kinds("studio")
    opened = raw.face_key(None, NONCE, HEADER)
    plaintext = b"plain face"
    blob = seal(opened, HEADER, plaintext, b"")
    write_private(tmp_path / "bad.key", LINE + "0")
    failing: list[Callable[[], object]] = [
        lambda: raw.face_key(FAST, NONCE, HEADER),
        lambda: passphrase.face_key(None, NONCE, HEADER),
        lambda: raw.face_key(None, b"", HEADER),
        lambda: unseal(released.face_key(None, NONCE, HEADER), HEADER, blob, b""),
        lambda: unseal(opened, HEADER, blob[:-1] + b"x", b""),
        lambda: unseal(opened, HEADER, blob[:10], b""),
        lambda: load_key(PASSPHRASE, folder=tmp_path, environ={}),
        lambda: load_key("hunter2", folder=tmp_path, environ={}),
        lambda: load_key("bad", folder=tmp_path, environ={}),
        lambda: load_key("a", folder=tmp_path, environ={"FACEPRIVACY_KEY_A": PASSPHRASE + "\udcff"}),
    ]
    for fail in failing:
        error = catch(fail)
        secrets = [RAW.hex(), repr(RAW)[2:-1], PASSPHRASE, "plain face", opened.reveal().hex()]
        assert_silent(error, secrets)
    # With the locals of every frame: errors that arise although key and payload are sound.
    for fail in failing[:6]:
        lines = traceback.TracebackException.from_exception(catch(fail), capture_locals=True).format()
        assert [line for line in lines for secret in (RAW.hex(), repr(RAW)[2:-1], PASSPHRASE) if secret in line] == []


def catch(fail: Callable[[], object]) -> BaseException:
    """Return the error, without this test's own frame, whose locals are the secrets."""
    try:
        fail()
    except FacePrivacyError as error:
        return error.with_traceback(error.__traceback__.tb_next.tb_next)
    raise AssertionError("nothing was refused")


FOLDER = Path(derivation.__file__).parent
FORBIDDEN_MODULES = {"random", "pickle", "shelve", "marshal"}
FORBIDDEN_NAMES = {
    "np": {"random", "load"},
    "numpy": {"random", "load"},
    "torch": {"manual_seed", "seed", "rand", "randn", "randint", "randperm", "bernoulli", "Generator", "load", "save"},
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_seeded_generator_and_no_pickle_is_near_the_keys(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
            assert not {alias.name for alias in node.names} & FORBIDDEN_NAMES.get(node.module or "", set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in FORBIDDEN_NAMES.get(node.value.id, set()), f"{node.value.id}.{node.attr}"
