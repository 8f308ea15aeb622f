"""Files that give something away, and the command `faceprivacy audit` run on them."""

from __future__ import annotations

import argparse
import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from faceprivacy_core.commands import audit
from faceprivacy_core.keyed.container import KeyedFaceRecord, pack
from faceprivacy_core.keyed.header import Bind, Cover, FaceHeader, RecoveryMode

KEY = bytes(range(7, 39))
FACE_KEY = bytes(range(100, 132))
PASSPHRASE = 'Blüten & "Staub" 41'
SUFFIXES = ("png", "jpg", "webp", "tif", "gif", "bmp")
SUBJECT = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8))
BASE = ExifTags.Base


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
    thumbnail[0x0201] = len(body) + len(thumbnail.tobytes(len(body)))
    return b"Exif\0\0" + bytes(body) + thumbnail.tobytes(len(body)) + small


def xmp(inside: str) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description {inside}/></rdf:RDF></x:xmpmeta>'.encode()


def photoshop(code: int, body: bytes) -> bytes:
    return b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">H2xI", code, len(body)) + body + b"\0" * (len(body) % 2)


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG with one segment more."""
    plain = encoded("jpg")
    return plain[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + plain[2:]


def iptc(number: int, text: bytes) -> bytes:
    return segment(0xED, photoshop(0x0404, struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text))


def payload() -> bytes:
    header = FaceHeader(
        mode=RecoveryMode.EXACT, cover=Cover.INDEPENDENT, nonce=bytes(16), kdf=None, width=20, height=24, crop_size=64,
        crop_to_image=(1, 0, 0, 0, 1, 0), cells=np.ones((8, 8), dtype=bool), model="", condition="", steps=0, iterations=0,
        bind=Bind.PICTURE, decoy=False, signer=bytes(32),
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
