"""`faceprivacy audit`: what it finds, what it leaves alone, and that it never shows a secret."""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import pickle
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from faceprivacy_core import audit as core
from faceprivacy_core.commands import audit
from faceprivacy_core.keyed.container import KeyedFaceRecord, pack
from faceprivacy_core.keyed.header import Bind, Cover, FaceHeader, RecoveryMode

KEY = bytes(range(7, 39))
FACE_KEY = bytes(range(100, 132))
PASSPHRASE = 'Blüten & "Staub" 41'
SUFFIXES = ("png", "jpg", "webp", "tif", "gif", "bmp")
SUBJECT = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8))
BASE = ExifTags.Base


@pytest.fixture(autouse=True)
def keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's keys: two files and a passphrase in the environment; nobody else's."""
    for variable in [name for name in os.environ if name.startswith("FACEPRIVACY_KEY_")]:
        monkeypatch.delenv(variable)
    folder = tmp_path_factory.mktemp("keys")
    (folder / "anna.key").write_text(f"# a comment\nfaceprivacy-key-1 {KEY.hex()}\n")
    (folder / "one-face.key").write_text(f"faceprivacy-face-key-1 {FACE_KEY.hex()}\n")
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(folder))
    monkeypatch.setenv("FACEPRIVACY_KEY_FAMILY", PASSPHRASE)
    return folder


def encoded(suffix: str = "png", subject: Image.Image = SUBJECT, **options: Any) -> bytes:
    stream = io.BytesIO()
    subject.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix), **options)
    return stream.getvalue()


def png(*texts: tuple[str, str], compressed: bool = False, international: bool = False) -> bytes:
    info = PngInfo()
    for keyword, text in texts:
        (info.add_itxt if international else info.add_text)(keyword, text, zip=compressed)
    return encoded(pnginfo=info)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG with one chunk more, after the first."""
    plain = encoded()
    return plain[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) + plain[33:]


def exif(tags: dict[int, Any] | None = None, details: dict[int, Any] | None = None, gps: dict[int, Any] | None = None) -> bytes:
    made = Image.Exif()
    for tag, value in {BASE.Orientation: 1, **(tags or {})}.items():
        made[tag] = value
    made.get_ifd(ExifTags.IFD.Exif).update(details or {})
    made.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    return made.tobytes()


def exif_with_thumbnail() -> bytes:
    """EXIF whose second directory holds a small JPEG; Pillow reads such a one and does not write it."""
    head = b"II*\0\x08\0\0\0"
    main, thumbnail = ImageFileDirectory_v2(head), ImageFileDirectory_v2(head)
    main[BASE.Orientation] = 1
    body = bytearray(head + main.tobytes(8))
    struct.pack_into("<I", body, 8 + 2 + 12, len(body))
    small = encoded("jpg", SUBJECT.resize((8, 8)))
    thumbnail[0x0201], thumbnail[0x0202] = 0, len(small)
    return b"Exif\0\0" + bytes(body) + thumbnail.tobytes(len(body)) + small


def xmp(inside: str) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description {inside}/></rdf:RDF></x:xmpmeta>'.encode()


def photoshop(code: int, body: bytes) -> bytes:
    return b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">H2xI", code, len(body)) + body + b"\0" * (len(body) % 2)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG with one segment more."""
    plain = encoded("jpg")
    return plain[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + plain[2:]


def _with_extended_xmp(inside: str) -> bytes:
    extended = segment(0xE1, core.EXTENDED_XMP + bytes(40) + xmp(inside))
    base = encoded("jpg", xmp=xmp('xmp:CreateDate="2024"'))
    return base[:20] + extended[2 : -len(encoded("jpg")) + 2] + base[20:]


def iptc(number: int, text: bytes) -> bytes:
    return segment(0xED, photoshop(0x0404, struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text))


def payload() -> bytes:
    header = FaceHeader(
        mode=RecoveryMode.EXACT, cover=Cover.INDEPENDENT, nonce=bytes(16), kdf=None, width=20, height=24, crop_size=64,
        crop_to_image=(1, 0, 0, 0, 1, 0), cells=np.ones((8, 8), dtype=bool), model="", condition="", steps=0, iterations=0,
        bind=Bind.PICTURE, decoy=False,
    )  # fmt: skip
    return pack([KeyedFaceRecord(header, b"sealed")])


def api_form(class_type: str, **inputs: Any) -> dict[str, Any]:
    sampler = {"class_type": "KSampler", "inputs": {"seed": 7, "model": ["9", 0], "sampler_name": "euler"}}
    return {"1": sampler, "3": {"class_type": class_type, "inputs": inputs}}


def frontend_form(class_type: str, named: bool = True, **widgets: Any) -> dict[str, Any]:
    slots = [{"name": name, "type": "STRING", "widget": {"name": name}, "link": None} for name in widgets] if named else []
    node = {"id": 3, "type": class_type, "inputs": slots, "widgets_values": list(widgets.values())}
    sampler = {"id": 1, "type": "KSampler", "inputs": [], "widgets_values": [7, "randomize", 20, "euler"]}
    return {"nodes": [sampler, node], "links": [], "version": 0.4}


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def run(capsys: pytest.CaptureFixture[str], *paths: Path, as_document: bool = False) -> tuple[int, str]:
    """Run the command and return its status and all it said, after making sure that no secret is in it."""
    parser = argparse.ArgumentParser()
    audit.add_parser(parser.add_subparsers())
    options = parser.parse_args(["audit", *map(str, paths), *(["--json"] if as_document else [])])
    status = options.run(options)
    said = "".join(capsys.readouterr())
    for raw in (KEY, FACE_KEY):
        pieces = [raw.hex()[start : start + 8] for start in range(0, 57)]
        assert not any(piece in said.lower() for piece in pieces)
        assert base64.b64encode(raw).decode()[:12] not in said
    assert not any(piece in said for piece in ("Bl\u00fcten", "Staub", "hunter2"))
    return status, said


def kinds(capsys: pytest.CaptureFixture[str], path: Path) -> set[str]:
    """Return the kinds of findings of one file, from both forms of output."""
    status, lines = run(capsys, path)
    same_status, text = run(capsys, path, as_document=True)
    document = json.loads(text)
    (file,) = document["files"]
    assert file["problem"] is None
    assert status == same_status == document["status"]
    assert len(lines.splitlines()) == len(file["findings"]) + 1
    for finding in file["findings"]:
        assert f"{finding['level']:<8}  {path}: {finding['what']} ({finding['where']}). {finding['advice']}" in lines
    levels = {finding["level"] for finding in file["findings"]}
    assert status == (1 if levels & {"secret", "personal"} else 0)
    return {finding["kind"] for finding in file["findings"]}


def written(folder: Path, content: bytes, suffix: str) -> Path:
    path = folder / f"subject.{suffix}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_plain_picture_has_no_findings(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, encoded(suffix), suffix)
    assert kinds(capsys, path) == set()
    assert run(capsys, path) == (0, "1 files: 0 secret, 0 personal, 0 note. 0 other files were not looked at.\n")


GPS = {0: b"\2\3\0\0", 1: "N", 2: (48.0, 8.0, 14.0)}
PARAMETERS = "a portrait\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
GRAPH = json.dumps(api_form("CLIPTextEncode", text="a portrait"))
PICTURES: dict[str, tuple[str, Callable[[], bytes], set[str]]] = {
    "gps": ("jpg", lambda: encoded("jpg", exif=exif(gps=GPS)), {"location"}),
    "gps in png": ("png", lambda: encoded(exif=exif(gps=GPS)), {"location"}),
    "gps in webp": ("webp", lambda: encoded("webp", exif=exif(gps=GPS)), {"location"}),
    "gps in tiff": ("tif", lambda: encoded("tif", exif=exif(gps=GPS)), {"location"}),
    "no place in the gps block": ("jpg", lambda: encoded("jpg", exif=exif(gps={0: b"\2\3\0\0"})), set()),
    "orientation alone": ("jpg", lambda: encoded("jpg", exif=exif({BASE.Orientation: 6})), set()),
    "emptied fields": ("jpg", lambda: encoded("jpg", exif=exif({BASE.Artist: " ", BASE.Make: ""})), set()),
    "camera": ("jpg", lambda: encoded("jpg", exif=exif({BASE.Make: "Acme", BASE.Model: "X1"})), {"device"}),
    "exposure": ("jpg", lambda: encoded("jpg", exif=exif(details={BASE.FNumber: 2.8})), {"device"}),
    "dates": ("jpg", lambda: encoded("jpg", exif=exif({BASE.DateTime: "2024:01:01 10:00:00"})), {"date"}),
    "editor": ("jpg", lambda: encoded("jpg", exif=exif({BASE.Software: "Acme Paint"})), {"software"}),
    "serial number": ("jpg", lambda: encoded("jpg", exif=exif(details={BASE.BodySerialNumber: "0815"})), {"serial"}),
    "maker note": ("jpg", lambda: encoded("jpg", exif=exif(details={BASE.MakerNote: b"Acme0815"})), {"serial"}),
    "artist": ("jpg", lambda: encoded("jpg", exif=exif({BASE.Artist: "Anna"})), {"person"}),
    "artist in tiff": ("tif", lambda: encoded("tif", tiffinfo={BASE.Artist: "Anna"}), {"person"}),
    "thumbnail": ("jpg", lambda: encoded("jpg", exif=exif_with_thumbnail()), {"embedded"}),
    "thumbnail in png": ("png", lambda: encoded(exif=exif_with_thumbnail()), {"embedded"}),
    "thumbnail in webp": ("webp", lambda: encoded("webp", exif=exif_with_thumbnail()), {"embedded"}),
    "photoshop thumbnail": ("jpg", lambda: segment(0xED, photoshop(0x040C, b"small picture")), {"embedded"}),
    "jfif thumbnail": ("jpg", lambda: segment(0xE0, b"JFXX\0\x10small picture"), {"embedded"}),
    "phone's further pictures": ("jpg", lambda: encoded("mpo", save_all=True, append_images=[SUBJECT]), {"embedded"}),
    "smaller tiff page": ("tif", lambda: _tiff_with_small_page(), {"embedded", "frames"}),
    "comment": ("jpg", lambda: encoded("jpg", comment="taken at home"), {"text"}),
    "gif comment": ("gif", lambda: encoded("gif", comment="taken at home"), {"text"}),
    "user comment": ("jpg", lambda: encoded("jpg", exif=exif(details={BASE.UserComment: _unicode("hello")})), {"text"}),
    "prompt in a user comment": (
        "jpg", lambda: encoded("jpg", exif=exif(details={BASE.UserComment: _unicode(PARAMETERS)})), {"prompt"}),
    "prompt in windows' comment": (
        "jpg", lambda: encoded("jpg", exif=exif({0x9C9C: PARAMETERS.encode("utf-16-le")})), {"prompt"}),
    "prompt in a comment": ("jpg", lambda: encoded("jpg", comment=PARAMETERS), {"prompt"}),
    "comfyui webp": ("webp", lambda: encoded("webp", exif=exif({BASE.Model: "prompt:" + GRAPH})), {"workflow"}),
    "comfyui prompt": ("png", lambda: png(("prompt", GRAPH)), {"prompt", "workflow"}),
    "comfyui workflow": (
        "png", lambda: png(("workflow", json.dumps(frontend_form("CLIPTextEncode", text="a portrait")))), {"workflow"}),
    "web ui": ("png", lambda: png(("parameters", PARAMETERS)), {"prompt"}),
    "compressed web ui": ("png", lambda: png(("parameters", PARAMETERS), compressed=True), {"prompt"}),
    "international text": ("png", lambda: png(("Beschreibung", "grün"), compressed=True, international=True), {"text"}),
    "png author": ("png", lambda: png(("Author", "Anna")), {"person"}),
    "png software": ("png", lambda: png(("Software", "Acme Paint")), {"software"}),
    "png date": ("png", lambda: png(("Creation Time", "2024"), ("date:create", "2024")), {"date"}),
    "png time": ("png", lambda: chunk(b"tIME", bytes(7)), {"date"}),
    "imagemagick place": ("png", lambda: png(("exif:GPSLatitude", "48/1")), {"location"}),
    "imagemagick block": ("png", lambda: png(("Raw profile type exif", "\nexif\n4\n00ff00ff")), {"unread"}),
    "empty text": ("png", lambda: png(("Comment", "")), set()),
    "checksum or key": ("png", lambda: png(("Comment", "ab" * 32)), {"digits", "text"}),
    "password in a text": ("png", lambda: png(("Password", "hunter2")), {"secret-field", "text"}),
    "unknown chunk": ("png", lambda: chunk(b"caBX", b"claims"), {"unread"}),
    "unknown segment": ("jpg", lambda: segment(0xEB, b"JP claims"), {"unread"}),
    "animation": ("gif", lambda: encoded("gif", save_all=True, append_images=[SUBJECT.rotate(90)]), {"frames"}),
    "animated png": ("png", lambda: encoded("png", save_all=True, append_images=[SUBJECT.rotate(90)]), {"frames"}),
    "byline": ("jpg", lambda: iptc(80, b"Anna"), {"person"}),
    "city": ("jpg", lambda: iptc(90, b"Ulm"), {"location"}),
    "caption": ("jpg", lambda: iptc(120, b"a birthday"), {"text"}),
    "iptc that tells nothing": ("jpg", lambda: iptc(10, b"5"), set()),
    "xmp": ("jpg", lambda: encoded("jpg", xmp=xmp('xmp:Rating="1"')), {"xmp"}),
    "xmp place": ("jpg", lambda: encoded("jpg", xmp=xmp('exif:GPSLatitude="48,8N"')), {"xmp", "location"}),
    "xmp in webp": ("webp", lambda: encoded("webp", xmp=xmp('photoshop:City="Ulm"')), {"xmp", "location"}),
    "xmp in tiff": ("tif", lambda: encoded("tif", tiffinfo={700: xmp('aux:SerialNumber="1"')}), {"xmp", "serial"}),
    "xmp in png": (
        "png", lambda: png(("XML:com.adobe.xmp", xmp('dc:creator="Anna"').decode()), compressed=True, international=True),
        {"xmp", "person"}),
    "xmp program and date": (
        "jpg", lambda: encoded("jpg", xmp=xmp('xmp:CreatorTool="Paint" xmp:CreateDate="2024"')), {"xmp", "software", "date"}),
    "xmp thumbnail": ("jpg", lambda: encoded("jpg", xmp=xmp('xmpGImg:image="/9j/4A"')), {"xmp", "embedded"}),
    "original in extended xmp": (
        "jpg", lambda: _with_extended_xmp('GImage:Data="/9j/4A"'), {"xmp", "date", "embedded"}),
    "xmp in gif": (
        "gif", lambda: encoded("gif")[:-1] + b"!\xff\x0bXMP DataXMP" + xmp('dc:creator="A"') + b"\0;", {"xmp", "person"}),
    "named faces": ("jpg", lambda: encoded("jpg", xmp=xmp('mwg-rs:Name="Anna"')), {"xmp", "person"}),
    "prompt in xmp": (
        "jpg", lambda: encoded("jpg", xmp=xmp(f'dc:description="{html.escape(PARAMETERS)}"')), {"xmp", "text", "prompt"}),
    "payload": ("png", lambda: chunk(b"fpRv", payload()), {"payload"}),
    "sidecar": ("fprv", payload, {"payload"}),
    "key file": ("key", lambda: b"faceprivacy-key-1 " + b"ab" * 32, {"key-file"}),
    "key file in a comment": ("jpg", lambda: encoded("jpg", comment="faceprivacy-face-key-1 " + "ab" * 32), {"key-file"}),
}  # fmt: skip


def _unicode(text: str) -> bytes:
    return b"UNICODE\0" + text.encode("utf-16-be")


def _tiff_with_small_page() -> bytes:
    small = SUBJECT.resize((8, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    return encoded("tif", save_all=True, append_images=[small])


@pytest.mark.parametrize("name", PICTURES)
def test_what_a_picture_gives_away_is_found_and_nothing_else(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    suffix, make, expected = PICTURES[name]
    found = kinds(capsys, written(tmp_path, make(), suffix))
    assert found == expected


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != "tif"])
def test_bytes_behind_the_image_are_counted(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    behind = encoded("jpg")
    path = written(tmp_path, encoded(suffix) + behind, suffix)
    assert kinds(capsys, path) == {"trailing"}
    assert f"{len(behind)} bytes" in run(capsys, path)[1]
    assert kinds(capsys, written(tmp_path, encoded(suffix) + bytes(100), suffix)) == set(), "padding is no data"


def test_a_progressive_jpeg_with_restarts_ends_where_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plain = encoded("jpg", SUBJECT.resize((300, 200)), progressive=True, restart_marker_blocks=3, exif=exif_with_thumbnail())
    assert kinds(capsys, written(tmp_path, plain, "jpg")) == {"embedded"}
    assert kinds(capsys, written(tmp_path, plain + b"clip", "jpg")) == {"embedded", "trailing"}


def test_a_keyed_payload_is_a_note_with_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, said = run(capsys, written(tmp_path, chunk(b"fpRv", payload()), "png"))
    assert status == 0
    assert f"{len(payload())} bytes" in said
    status, said = run(capsys, written(tmp_path, chunk(b"fpRv", payload()[:-1]), "png"))
    assert status == 2, "what is no payload may be anything"


WORKFLOWS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "nothing": ("CLIPTextEncode", {"text": "a portrait of hunter2's token"}, set()),
    "key": ("Encrypt", {"key": "hunter2"}, {"secret-field"}),
    "password": ("Encrypt", {"password": "hunter2"}, {"secret-field"}),
    "passphrase": ("Encrypt", {"Passphrase_1": "hunter2"}, {"secret-field"}),
    "secret": ("Encrypt", {"clientSecret": "hunter2"}, {"secret-field"}),
    "token": ("Upload", {"hf_token": "hunter2"}, {"secret-field"}),
    "api key": ("Upload", {"apiKey": "hunter2"}, {"secret-field"}),
    "empty password": ("Encrypt", {"password": " "}, set()),
    "names that only look alike": (
        "CLIPTextEncode", {"token_normalization": "none", "key_name": "anna", "keyframes": "0", "monkey": "x"}, set()),
    "unknown key in any widget": ("CLIPTextEncode", {"text": f"my {'c0ffee00' * 8}."}, {"hex-key"}),
    "longer digits": ("CLIPTextEncode", {"text": "c0ffee00" * 9}, set()),
    "name of a key": ("FacePrivacy_PrivacyKey", {"name": "anna"}, {"key-name"}),
    "key instead of its name": ("FacePrivacy_PrivacyKey", {"name": "c0ffee00" * 8}, {"hex-key"}),
    "passphrase instead of a name": ("FacePrivacy_PrivacyKey", {"name": "my hunter2"}, {"not-a-name"}),
    "input picture": ("LoadImage", {"image": "anna.jpg"}, {"input-name"}),
    "input picture of a folder": ("LoadImage", {"image": "party/anna.PNG [input]"}, {"input-name"}),
    "input picture without suffix": ("LoadImageMask", {"image": "anna"}, {"input-name"}),
    "input video": ("VHS_LoadVideo", {"video": "anna.mp4"}, {"input-name"}),
    "model": ("CheckpointLoaderSimple", {"ckpt_name": "sd15.safetensors"}, set()),
    "home folder": ("LoadVideo", {"folder": "C:\\Users\\Anna\\party"}, {"path"}),
}  # fmt: skip


@pytest.mark.parametrize("form", [api_form, frontend_form])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_widgets_are_judged_in_both_forms(form: Any, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class_type, widgets, expected = WORKFLOWS[name]
    document = form(class_type, **widgets)
    assert kinds(capsys, written(tmp_path, as_json(document), "json")) == expected | {"workflow"}
    in_png = kinds(capsys, written(tmp_path, png(("workflow", json.dumps(document)), compressed=True), "png"))
    assert in_png == expected | {"workflow"}


@pytest.mark.parametrize("form", [api_form, frontend_form])
def test_a_widget_is_reported_once_with_its_node(form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, as_json(form("Encrypt", password="hunter2")), "json")
    said = run(capsys, path)[1].splitlines()
    assert len(said) == 3
    assert sum("(workflow file, node 3 Encrypt, password)" in line for line in said) == 1


def test_widgets_without_names_are_judged_by_their_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    named = frontend_form("TextPassword", named=False, text="hunter2")
    assert kinds(capsys, written(tmp_path, as_json(named), "json")) == {"workflow", "secret-field"}
    key_node = frontend_form("FacePrivacy_PrivacyKey", named=False, name="anna")
    assert kinds(capsys, written(tmp_path, as_json(key_node), "json")) == {"workflow", "key-name"}
    unsure = frontend_form("Encrypt", password="hunter2")
    unsure["nodes"][1]["widgets_values"].insert(0, "aes")
    assert kinds(capsys, written(tmp_path, as_json(unsure), "json")) == {"workflow", "secret-field"}
    seeded = frontend_form("Encrypt", seed=7, mode="aes", password="")
    seeded["nodes"][1]["widgets_values"].insert(1, "randomize")
    assert kinds(capsys, written(tmp_path, as_json(seeded), "json")) == {"workflow"}
    by_name = frontend_form("Encrypt")
    by_name["nodes"][1]["widgets_values"] = {"password": "hunter2"}
    assert kinds(capsys, written(tmp_path, as_json(by_name), "json")) == {"workflow", "secret-field"}


def test_a_text_node_that_feeds_a_password_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    api = api_form("Encrypt", password=["5", 0]) | {"5": {"class_type": "PrimitiveString", "inputs": {"value": "hunter2"}}}
    assert kinds(capsys, written(tmp_path, as_json(api), "json")) == {"workflow", "secret-field"}
    api["3"]["inputs"] = {"remark": ["5", 0]}
    assert kinds(capsys, written(tmp_path, as_json(api), "json")) == {"workflow"}
    api["3"]["inputs"] = {"key": ["5", 0]}
    api["5"] = {"class_type": "KeyLoader", "inputs": {"label": "mine"}}
    assert kinds(capsys, written(tmp_path, as_json(api), "json")) == {"workflow"}
    for link in ([8, 5, 0, 3, 0, "STRING"], {"id": 8, "origin_id": 5, "target_id": 3}):
        frontend = frontend_form("Encrypt", password="")
        frontend["nodes"].append({"id": 5, "type": "PrimitiveNode", "inputs": [], "widgets_values": ["hunter2"]})
        frontend["nodes"][1]["inputs"][0]["link"] = 8
        nested = {"nodes": [], "links": [], "definitions": {"subgraphs": [frontend | {"links": [link]}]}}
        assert kinds(capsys, written(tmp_path, as_json(nested), "json")) == {"workflow", "secret-field"}


def test_fields_around_the_nodes_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    history = {"prompt": [0, "id", api_form("SaveImage", images=["1", 0]), {"api_key_comfy_org": "hunter2"}]}
    assert kinds(capsys, written(tmp_path, as_json(history), "json")) == {"workflow", "secret-field"}
    history["prompt"][3] = {"api_key_comfy_org": "", "shortcut": {"key": "s"}}
    assert kinds(capsys, written(tmp_path, as_json(history), "json")) == {"workflow"}


def _utf16(text: str) -> bytes:
    return encoded("jpg", exif=exif(details={BASE.UserComment: b"UNICODE\0" + text.encode("utf-16-le")}))


HEX = KEY.hex()
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
    secrets = core.Secrets([("anna", f"faceprivacy-key-1 {KEY.hex()}")])
    for shift in (-33, -20, -1, 0, 1):
        assert secrets.names_in(bytes(core.Secrets.SLICE + shift) + KEY + bytes(9)) == ["anna"]
    assert secrets.names_in(bytes(2 * core.Secrets.SLICE)) == []


def test_a_key_in_both_alphabets_of_base64_is_found():
    raw = b"\xfb\xff" * 16
    secrets = core.Secrets([("anna", raw.hex())])
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
    secrets = core.Secrets([("family", PASSPHRASE), ("none", " ")])
    assert str(secrets) == repr(secrets) == "Secrets(['family'])"
    with pytest.raises(TypeError):
        pickle.dumps(secrets)


def test_a_damaged_key_file_is_a_problem_and_not_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: Path):
    (keys / "broken.key").write_text(f"faceprivacy-key-1 {HEX[:-1]}\n")
    path = written(tmp_path, encoded(), "png")
    status, said = run(capsys, path)
    assert status == 2
    assert "broken.key" in said
    status, said = run(capsys, path, as_document=True)
    assert status == json.loads(said)["status"] == 2
    assert len(json.loads(said)["problems"]) == 1


def test_what_cannot_be_read_ends_with_2_and_the_others_are_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.png").write_bytes(encoded()[:-20])
    (tmp_path / "b.json").write_text('{"password": ')
    (tmp_path / "c.png").write_bytes(png(("Author", "Anna")))
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    status, said = run(capsys, tmp_path, tmp_path / "missing.png")
    assert status == 2
    assert said.count("Do not take it for clean") == 4
    assert "c.png: names or contacts of people (PNG text Author)" in said
    status, said = run(capsys, tmp_path, as_document=True)
    assert [bool(file["problem"]) for file in json.loads(said)["files"]] == [True, True, False, True]


def test_findings_before_the_damage_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, said = run(capsys, written(tmp_path, png(("Author", "Anna"))[:-20], "png"))
    assert status == 2
    assert "personal" in said


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("png", lambda: png(("a", "b" * 3_000_000), compressed=True)),
        ("png", lambda: chunk(b"zTXt", b"a\0\0" + b"x" * 40)),
        ("png", lambda: chunk(b"iTXt", b"a\0\1\0\0\0" + b"x" * 40)),
        ("png", lambda: chunk(b"eXIf", b"no directory")),
        ("jpg", lambda: encoded("jpg", exif=b"Exif\0\0no directory")),
        ("jpg", lambda: encoded("jpg", exif=exif({BASE.Artist: "Anna" * 9})[:-20])),
        ("jpg", lambda: encoded("jpg")[:-2]),
        ("json", lambda: b"[" * 200_000),
        ("json", lambda: b"1" * 10_000),
        ("json", lambda: b"\xff\xfe\x00"),
        ("fprv", lambda: b"FPRV1\0\0\1\xff\xff\xff\xff"),
    ],
)
def test_hidden_or_damaged_parts_are_problems_not_silence(
    suffix: str, make: Callable[[], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(capsys, written(tmp_path, make(), suffix))[0] == 2


def test_compressed_text_takes_bounded_memory(tmp_path: Path):
    bomb = zlib.compress(bytes(64 * 2**20))
    path = written(tmp_path, chunk(b"zTXt", b"a\0\0" + bomb), "png")
    tracemalloc.start()
    report = core.audit_file(path, core.Secrets())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.problems
    assert peak < 8 * 2**20


def test_files_and_texts_beyond_the_caps_are_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = written(tmp_path, as_json(["x" * 100]), "json")
    assert run(capsys, path)[0] == 0
    monkeypatch.setattr(core, "MAX_TEXT_BYTES", 100)
    assert run(capsys, path)[0] == 2
    monkeypatch.setattr(core, "MAX_TEXT_BYTES", 1000)
    monkeypatch.setattr(core, "MAX_FILE_BYTES", 100)
    assert run(capsys, path)[0] == 2


def test_folders_are_followed_and_links_out_of_them_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    (inside / "deep" / "a.PNG").write_bytes(png(("Author", "Anna")))
    (inside / "notes.txt").write_text("no picture")
    (outside / "b.png").write_bytes(png(("Author", "Berta")))
    try:
        (inside / "b.png").symlink_to(outside / "b.png")
        (inside / "far").symlink_to(outside)
        (inside / "round").symlink_to(inside)
        (inside / "dead.png").symlink_to(inside / "nothing")
        (inside / "near.png").symlink_to(inside / "deep" / "a.PNG")
    except OSError:
        pytest.skip("This system makes no links.")
    files = json.loads(run(capsys, inside, as_document=True)[1])
    assert [Path(file["file"]).name for file in files["files"]] == ["near.png", "a.PNG"]
    assert files["not_looked_at"] == 4
    assert kinds(capsys, inside / "b.png") == {"person"}, "a link that is named is followed"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_make_the_audit_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "a.png")
    assert run(capsys, tmp_path)[0] == 2


def test_names_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a\x1b[2J\nclean.png"
    try:
        path.write_bytes(png(("Au\x1b[2Jthor", "Anna")))
    except (OSError, ValueError):
        pytest.skip("This system allows no such names.")
    said = run(capsys, path)[1]
    assert "\x1b" not in said
    assert len(said.splitlines()) == 2


def test_random_and_mutated_files_end_in_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    draw = random.Random(3)
    heads = [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe1",
        b"RIFF\x40\0\0\0WEBPVP8X",
        b"II*\0",
        b"MM\0*",
        b"GIF89a",
        b"BM",
        b"{",
        b"",
    ]
    samples = [(suffix, make()) for suffix, make, _ in PICTURES.values()]
    samples += [("json", as_json(frontend_form("Encrypt", password="hunter2", image="a.png")))] * 10
    contents = []
    for _ in range(200):
        contents.append((draw.choice(SUFFIXES), draw.choice(heads) + draw.randbytes(draw.randrange(400))))
    for _ in range(500):
        suffix, sample = draw.choice(samples)
        mutated = bytearray(sample[: draw.randrange(len(sample)) if draw.random() < 0.2 else None])
        for _ in range(min(draw.randrange(1, 12), len(mutated))):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        contents.append((suffix, bytes(mutated)))
    for number, (suffix, content) in enumerate(contents):
        (tmp_path / f"{number}.{suffix}").write_bytes(content)
    status, said = run(capsys, tmp_path, as_document=True)
    document = json.loads(said)
    assert status == 2
    assert len(document["files"]) == len(contents)
    assert 100 < sum(file["problem"] is not None for file in document["files"]) < len(contents)
