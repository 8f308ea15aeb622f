"""The chunks of a PNG."""

from __future__ import annotations

import io
import re
import zlib
from typing import Any

from PIL import PngImagePlugin

from ..keyed.files import CHUNK
from .blocks import audit_payload, audit_trailing
from .containers import STEP_BYTES, audit_pixel_data
from .icc import audit_icc
from .metadata import EXIF_START, audit_exif, audit_xmp, load_exif
from .names import is_secret_name, kind_of
from .notes import Notes
from .text import audit_free_text
from .tiff import audit_tiff_bytes

PNG_START = b"\x89PNG\r\n\x1a\n"
MAX_STREAM_BYTES = 64 * 2**20
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
PLAIN_CHUNKS = {
    b"IHDR": 13, b"PLTE": 768, b"IEND": 0, b"tRNS": 256, b"cHRM": 32, b"gAMA": 4, b"sBIT": 4, b"sRGB": 1, b"cICP": 4,
    b"mDCV": 24, b"cLLI": 8, b"bKGD": 6, b"hIST": 512, b"pHYs": 9, b"oFFs": 9, b"sCAL": 64, b"acTL": 8,
    b"iDOT": 28, b"fcTL": 26,
}  # fmt: skip
"""Chunks that tell nothing about a person, and their greatest lengths."""
PIXELS, FRAME_PIXELS, FRAME = b"IDAT", b"fdAT", b"fcTL"
COMPRESSED = {b"iCCP": rb"[^\0]*\0\0", b"zTXt": rb"[^\0]*\0\0", b"iTXt": rb"[^\0]*\0\x01\0[^\0]*\0[^\0]*\0"}
"""What stands before a compressed stream."""


def audit_png(data: bytes, notes: Notes) -> None:
    """Audit the chunks of a PNG, which Pillow would stop reading at the pixels."""
    stream = PngImagePlugin.PngStream(io.BytesIO(data))
    position, kind, header = len(PNG_START), b"", b""
    idat: list[bytes] = []
    seen: set[bytes] = set()
    while kind != b"IEND":
        stream.fp.seek(position)
        kind, start, length = stream.read()
        if (position == len(PNG_START)) != (kind == b"IHDR") or start + length + 4 > len(data):
            raise SyntaxError("The PNG is damaged or cut off.")
        if kind == PIXELS:
            idat.append(data[start : start + length])
        elif kind in (FRAME, FRAME_PIXELS) and b"acTL" in seen and length <= PLAIN_CHUNKS.get(kind, length):
            pass  # of an animation, which is a finding
        elif kind not in PLAIN_CHUNKS:
            with notes.reading(f"chunk {kind.decode('latin-1')}"):
                _audit_chunk(stream, kind, data[start : start + length], notes)
        elif kind in seen or kind == FRAME or length > PLAIN_CHUNKS[kind]:
            notes.add("unread", f"chunk {kind.decode('latin-1')}", f"{length} bytes")
        elif kind == b"acTL":
            notes.add("frames", "chunk acTL")
        header = data[start : start + length] if kind == b"IHDR" else header
        seen.add(kind)
        position = start + length + 4
    with notes.reading("pixels"):
        audit_pixel_data(header, idat, notes)
    audit_trailing(data[position:], notes)


def _audit_chunk(stream: Any, kind: bytes, chunk: bytes, notes: Notes) -> None:
    if kind in COMPRESSED:
        _audit_behind_stream(kind, chunk, notes)
    if kind in TEXT_CHUNKS:
        stream.im_text.clear()
        stream.call(kind, stream.fp.tell(), len(chunk))
        for keyword, text in stream.im_text.items():
            _audit_text_chunk(keyword, text, notes)
        is_empty = kind == b"zTXt" and not any(stream.im_text.values()) and len(chunk.partition(b"\0")[2]) > 9
        if not stream.im_text or is_empty:  # Pillow passes over text that it cannot unpack or decode
            raise ValueError("The text cannot be unpacked.")
    elif kind == b"iCCP":
        stream.call(kind, stream.fp.tell(), len(chunk))
        audit_icc(stream.im_info["icc_profile"], notes)
    elif kind == b"eXIf":
        audit_exif(load_exif(chunk), notes)
        audit_tiff_bytes(chunk.removeprefix(EXIF_START), "EXIF", notes)
    elif kind == CHUNK:
        audit_payload(chunk, "chunk fpRv", notes)
    elif kind == b"tIME":
        notes.add("date", "chunk tIME")
    else:
        notes.add("unread", f"chunk {notes.label(kind.decode('latin-1'))}", f"{len(chunk)} bytes")


def _audit_behind_stream(kind: bytes, chunk: bytes, notes: Notes) -> None:
    """Note what lies behind the compressed stream of a chunk, which no reader looks at."""
    before = re.match(COMPRESSED[kind], chunk, re.DOTALL)
    if before is None:
        return  # not compressed
    unpack, rest, have = zlib.decompressobj(), chunk[before.end() :], 0
    while rest and not unpack.eof and have < MAX_STREAM_BYTES:
        have += len(unpack.decompress(rest, STEP_BYTES))
        rest = unpack.unconsumed_tail
    if unpack.unused_data:
        notes.add("unread", f"chunk {kind.decode('latin-1')}, behind its stream", f"{len(unpack.unused_data)} bytes")


def _audit_text_chunk(keyword: str, text: str, notes: Notes) -> None:
    where = f"PNG text {notes.label(keyword)}"
    notes.add_names(notes.secrets.names_in_text(keyword), "keyword of a PNG text")
    if keyword == "XML:com.adobe.xmp":
        audit_xmp(text, notes)
    elif keyword.lower().startswith("raw profile type"):
        notes.add("unread", where, f"{len(text)} characters")
    else:
        if is_secret_name(keyword) and text.strip():
            notes.add("secret-field", where)
        audit_free_text(text, where, notes, kind_of(keyword.replace(" ", ""), keyword.rpartition(":")[2]))
    notes.add_names(notes.secrets.names_in(text.encode("latin-1", "ignore")), where)  # UTF-8 against the standard
