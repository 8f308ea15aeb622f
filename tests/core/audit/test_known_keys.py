"""The user's keys are found in every form, and never shown."""

from __future__ import annotations

import base64
import html
import json
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from faceprivacy_core.audit.secrets import Secrets
from tests.support.audit import (
    BASE,
    FACE_KEY,
    KEY,
    PASSPHRASE,
    api_form,
    as_json,
    chunk,
    encoded,
    exif,
    frontend_form,
    iptc,
    kinds,
    payload,
    png,
    run,
    written,
    xmp,
)

HEX = KEY.hex()


def _utf16(text: str) -> bytes:
    return encoded("jpg", exif=exif(details={BASE.UserComment: b"UNICODE\0" + text.encode("utf-16-le")}))


PLANTED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "raw, in the pixels of a bmp": ("bmp", lambda: encoded("bmp", Image.frombytes("L", (32, 1), KEY))),
    "raw, behind the end": ("jpg", lambda: encoded("jpg") + KEY),
    "raw, in a sidecar": ("fprv", lambda: payload() + KEY),
    "hex in text": ("png", lambda: png(("Comment", f"the key is {HEX}"))),
    "capital hex in compressed text": ("png", lambda: png(("Comment", f"the key is {HEX.upper()}"), compressed=True)),
    "hex in international text": ("png", lambda: png(("Comment", HEX), compressed=True, international=True)),
    "hex as a keyword": ("png", lambda: png((HEX, "x"), compressed=True)),
    "hex of another key": ("png", lambda: png(("Comment", FACE_KEY.hex()), compressed=True)),
    "base64": ("png", lambda: png(("Comment", base64.b64encode(KEY).decode()), compressed=True)),
    "hex in a colour profile": ("png", lambda: encoded(icc_profile=bytes(200) + HEX.encode())),
    "hex in a workflow": ("json", lambda: as_json(api_form("CLIPTextEncode", text="x" + HEX))),
    "hex as a node's name": ("json", lambda: as_json(api_form(HEX, password=HEX))),
    "hex as a field": ("json", lambda: as_json({HEX: 1})),
    "hex in comments": ("gif", lambda: encoded("gif", comment=HEX)),
    "passphrase in text": ("png", lambda: png(("Comment", f"it is {PASSPHRASE}!"))),
    "passphrase in compressed text": ("png", lambda: png(("prompt", PASSPHRASE), compressed=True, international=True)),
    "passphrase in UTF-8, compressed": ("png", lambda: chunk(b"zTXt", b"a\0\0" + zlib.compress(PASSPHRASE.encode()))),
    "passphrase as JSON writes it, behind the end": ("jpg", lambda: encoded("jpg") + json.dumps(PASSPHRASE).encode()),
    "passphrase as XML writes it, behind the end": ("jpg", lambda: encoded("jpg") + html.escape(PASSPHRASE).encode()),
    "passphrase in UTF-16, behind the end": ("jpg", lambda: encoded("jpg") + PASSPHRASE.encode("utf-16-be")),
    "passphrase in a workflow": ("json", lambda: as_json(frontend_form("CLIPTextEncode", text=PASSPHRASE))),
    "passphrase, JSON in JSON": ("json", lambda: as_json({"a": json.dumps({"b": [f"is {PASSPHRASE}"]})})),
    "passphrase in compressed JSON": (
        "png", lambda: png(("workflow", json.dumps(api_form("X", password=f"is {PASSPHRASE}"))), compressed=True)),
    "passphrase in XMP": ("jpg", lambda: encoded("jpg", xmp=xmp(f'dc:title="{html.escape(PASSPHRASE)}"'))),
    "passphrase in UTF-16": ("jpg", lambda: _utf16(f"it is {PASSPHRASE}")),
    "passphrase in hex": ("jpg", lambda: encoded("jpg", comment=PASSPHRASE.encode().hex())),
    "passphrase in IPTC": ("jpg", lambda: iptc(120, PASSPHRASE.encode())),
    "passphrase, other accents": ("json", lambda: as_json([PASSPHRASE.replace("ü", "u\u0308")])),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_key_of_the_user_is_found_in_every_form_and_never_shown(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, keys: Path
):
    suffix, make = PLANTED[name]
    path = written(tmp_path, make(), suffix)
    lines = run(capsys, path)[1]
    (file,) = json.loads(run(capsys, path, as_document=True)[1])["files"]
    (found,) = [finding for finding in file["findings"] if finding["kind"] == "known-key"]
    owner = "FACEPRIVACY_KEY_FAMILY" if "passphrase" in name else "one-face" if "another" in name else "anna"
    assert owner in found["what"]
    assert found["what"] in lines
    monkeypatch.delenv("FACEPRIVACY_KEY_FAMILY")
    for file_name in ("anna.key", "one-face.key"):
        (keys / file_name).unlink()
    assert "known-key" not in run(capsys, path, as_document=True)[1], "found because it is known, not by chance"


def test_a_short_passphrase_is_found_as_a_whole_text_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FACEPRIVACY_KEY_SHORT", "ab")
    assert "known-key" in kinds(capsys, written(tmp_path, as_json(api_form("X", text="ab")), "json"))
    assert "known-key" not in kinds(capsys, written(tmp_path, as_json(api_form("X", text="about")), "json"))


def test_a_raw_key_in_the_environment_is_searched_as_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    raw = random.Random(5).randbytes(32)
    path = written(tmp_path, encoded("jpg") + raw, "jpg")
    assert kinds(capsys, path) == {"trailing"}
    monkeypatch.setenv("FACEPRIVACY_KEY_RAW", raw.hex())
    assert kinds(capsys, path) == {"trailing", "known-key"}


def test_a_key_across_the_slices_of_a_search_is_found():
    secrets = Secrets([("anna", f"faceprivacy-key-1 {KEY.hex()}")])
    for shift in (-33, -20, -1, 0, 1):
        assert secrets.names_in(bytes(Secrets.SLICE + shift) + KEY + bytes(9)) == ["anna"]
    assert secrets.names_in(bytes(2 * Secrets.SLICE)) == []


def test_a_key_in_both_alphabets_of_base64_is_found():
    raw = b"\xfb\xff" * 16
    secrets = Secrets([("anna", raw.hex())])
    assert secrets.names_in(base64.b64encode(raw)) == secrets.names_in(base64.urlsafe_b64encode(raw)) == ["anna"]


def test_a_file_named_by_a_key_is_reported_and_its_name_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / HEX).mkdir()
    path = tmp_path / HEX / f"{HEX}.png"
    path.write_bytes(encoded() + KEY)
    status, said = run(capsys, tmp_path)
    assert status == 1
    assert said.count("(hidden)") == 2 * 3
    assert "name of the file" in said
    assert "bytes of the file" in said


def test_secrets_show_names_only_and_stay_in_the_process():
    secrets = Secrets([("family", PASSPHRASE), ("none", " ")])
    assert str(secrets) == repr(secrets) == "Secrets(['family'])"
    with pytest.raises(TypeError):
        pickle.dumps(secrets)
