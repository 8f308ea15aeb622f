"""What pictures give away is found, and nothing else."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from faceprivacy_core.audit.metadata import EXTENDED_XMP
from tests.support.audit import (
    BASE,
    SUBJECT,
    SUFFIXES,
    api_form,
    as_json,
    chunk,
    encoded,
    exif,
    exif_with_thumbnail,
    frontend_form,
    iptc,
    kinds,
    payload,
    photoshop,
    png,
    run,
    segment,
    written,
    xmp,
)


def _with_extended_xmp(inside: str) -> bytes:
    extended = segment(0xE1, EXTENDED_XMP + bytes(40) + xmp(inside))
    base = encoded("jpg", xmp=xmp('xmp:CreateDate="2024"'))
    return base[:20] + extended[2 : -len(encoded("jpg")) + 2] + base[20:]


def _unicode(text: str) -> bytes:
    return b"UNICODE\0" + text.encode("utf-16-be")


def _tiff_with_small_page() -> bytes:
    small = SUBJECT.resize((8, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    return encoded("tif", save_all=True, append_images=[small])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_plain_picture_has_no_findings(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, encoded(suffix), suffix)
    assert kinds(capsys, path) == set()
    assert run(capsys, path) == (0, "1 file: 0 secret, 0 personal, 0 note. Other files that were not looked at: 0.\n")


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
