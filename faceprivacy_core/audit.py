"""Looks for what a file gives away: keys, prompts, places, names, devices, hidden pictures.

A finding says what there is and where, never its value: the report of an audit may be shown to anybody.
Pictures are read by Pillow and not decoded; what Pillow cannot read is a problem of the report, not silence.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import stat
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from PIL import ExifTags, Image, IptcImagePlugin, PngImagePlugin

from .errors import FormatError
from .keyed.container import MAGIC, unpack
from .keyed.files import CHUNK

SECRET, PERSONAL, NOTE = "secret", "personal", "note"
MAX_FILE_BYTES = 512 * 2**20
MAX_TEXT_BYTES = 16 * 2**20
"""Longest text parsed as JSON or XMP; compressed PNG text ends at Pillow's own 1 MiB a chunk."""
FILE_NAME = "name of the file"
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, zlib.error, FormatError, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow, json and the container raise for damaged or hostile files. Running out of memory is not among them."""


class Kind(NamedTuple):
    """One kind of finding: how grave it is, what it is, and what to do about it."""

    level: str
    what: str
    advice: str


_NEW_KEY = "Do not pass this file on. If it was seen by others, make a new key and encrypt again with it."
_NO_METADATA = "Save the picture without metadata before passing it on."
KINDS = {
    "known-key": Kind(SECRET, "the value of a key of yours", _NEW_KEY),
    "key-file": Kind(SECRET, "a line of a key file", _NEW_KEY),
    "secret-field": Kind(SECRET, "a value in a field for keys, passwords or tokens", _NEW_KEY + " A field holds names only."),
    "hex-key": Kind(SECRET, "64 hexadecimal digits in a widget, as a key has", _NEW_KEY),
    "not-a-name": Kind(SECRET, "a text that cannot be the name of a key", "It may be a passphrase: enter the name instead."),
    "location": Kind(PERSONAL, "where the picture was taken", _NO_METADATA),
    "person": Kind(PERSONAL, "names or contacts of people", _NO_METADATA),
    "serial": Kind(PERSONAL, "what tells one device from all others", _NO_METADATA),
    "embedded": Kind(PERSONAL, "a further picture inside, which may show the original face", _NO_METADATA),
    "unread": Kind(PERSONAL, "a block that cannot be looked into", "Save the picture anew without it."),
    "trailing": Kind(PERSONAL, "data behind the end of the image", "Save the picture anew; it may be a video or the original."),
    "input-name": Kind(PERSONAL, "the file name of an input", "Rename the input, or pass the file on without the workflow."),
    "path": Kind(PERSONAL, "a folder of a user's computer", "Take the path out, or pass the file on without the workflow."),
    "prompt": Kind(NOTE, "a prompt", "Save without metadata if nobody shall read it."),
    "workflow": Kind(NOTE, "a workflow with its settings", "Save without metadata if nobody shall read it."),
    "text": Kind(NOTE, "free text", "Read it before passing the picture on."),
    "device": Kind(NOTE, "camera or lens", "Save without metadata if nobody shall know."),
    "software": Kind(NOTE, "the software used", "Save without metadata if nobody shall know."),
    "date": Kind(NOTE, "a date or time", "Save without metadata if nobody shall know."),
    "xmp": Kind(NOTE, "an XMP block", "Save without metadata if it is not needed."),
    "frames": Kind(NOTE, "several frames", "Make sure that each of them is protected."),
    "payload": Kind(NOTE, "a keyed payload of this pack", "Nothing to do: only the key opens it."),
    "key-name": Kind(NOTE, "the name of a key", "Nothing to do: the key itself is not in it."),
    "digits": Kind(NOTE, "64 hexadecimal digits", "Make sure that they are a checksum, not a key."),
}


@dataclass(frozen=True)
class Finding:
    """One thing a file gives away. `kind` is a key of KINDS; `detail` never comes from the file's values."""

    kind: str
    where: str
    detail: str = ""


@dataclass
class Report:
    """What was found in one file, and which parts of it could not be read."""

    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Secrets:
    """Values that must occur nowhere, each under a public name. Shows names only and cannot be pickled."""

    SHORTEST, SLICE = 6, 2**20
    """Shorter byte strings occur in pixels by chance, so they count only as a whole text."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._exact: dict[str, set[bytes]] = {}
        self._folded: dict[str, set[bytes]] = {}
        self._whole: dict[str, set[str]] = {}
        for name, value in values:
            if value.strip():
                self._add(name, value)
        self._longest = max((len(n) for d in (self._exact, self._folded) for s in d.values() for n in s), default=0)

    def __repr__(self) -> str:
        return f"Secrets({sorted(self._exact)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secrets cannot be pickled.")

    def _add(self, name: str, value: str) -> None:
        texts = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC") for text in (value, value.strip())}
        exact, folded = self._exact.setdefault(name, set()), self._folded.setdefault(name, set())
        self._whole.setdefault(name, set()).update(texts)
        for text in texts:
            forms = {text.encode("utf-8", "surrogatepass")}
            with suppress(UnicodeEncodeError):
                forms.add(text.encode("latin-1"))
            folded |= {form.hex().encode() for form in forms}
            exact |= forms | {text.encode(code, "surrogatepass") for code in ("utf-16-le", "utf-16-be")}
            exact |= {json.dumps(text)[1:-1].encode(), html.escape(text).encode("utf-8", "surrogatepass")}
        for digits in HEX_KEY.findall(value):
            raw = bytes.fromhex(digits)
            folded.add(digits.lower().encode())
            exact |= {raw, base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}
        for needles in (exact, folded):
            needles -= {needle for needle in needles if len(needle) < self.SHORTEST}

    def names_in(self, data: bytes) -> list[str]:
        """Return the names of the values that occur in the bytes, in any of their forms."""
        found = set()
        for start in range(0, len(data) if self._exact else 0, self.SLICE):
            part = data[start : start + self.SLICE + self._longest]
            lower = part.lower()
            for name in self._exact.keys() - found:
                if any(n in part for n in self._exact[name]) or any(n in lower for n in self._folded[name]):
                    found.add(name)
        return sorted(found)

    def names_in_text(self, text: str) -> list[str]:
        """Return the names of the values that occur in a text or, when short, are the whole text."""
        names = set(self.names_in(text.encode("utf-8", "surrogatepass")))
        return sorted(names | {name for name, whole in self._whole.items() if text.strip() in whole or text in whole})


class Notes:
    """Gathers findings of one file. Every text of the file that gets into one goes through `label`."""

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self.found: dict[Finding, None] = {}
        self.problems: list[str] = []
        self.named: dict[str, list[str]] = {}

    def add(self, kind: str, where: str, detail: str = "") -> None:
        self.found[Finding(kind, where, detail)] = None

    def add_names(self, names: Iterable[str], where: str) -> None:
        """Note keys whose values occur at a place, unless a part of that place has been noted."""
        for name in names:
            places = self.named.setdefault(name, [])
            if not any(place.startswith(where) for place in places):
                places.append(where)
                self.add("known-key", where, name)

    def label(self, text: object) -> str:
        shown = str(text)
        if self.secrets.names_in_text(shown) or re.search(r"[0-9a-fA-F]{16}", shown):
            return "(hidden)"
        return "".join(c if c.isalnum() or c in " _-.:" else "?" for c in shown[:60])

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Let one part fail without hiding the others. No text of the error is kept: it may quote the file."""
        try:
            yield
        except UNREADABLE:
            self.problems.append(what)


def audit_file(path: Path, secrets: Secrets) -> Report:
    """Audit one picture, workflow, sidecar or key file.

    Args:
        path: A regular file. Its content decides what it is; `.json` and `.key` go by their names.
        secrets: Values to search for.

    Returns:
        Findings in order, and the parts that could not be read; an audit with problems proves nothing.
    """
    notes = Notes(secrets)
    notes.add_names(secrets.names_in_text(path.stem) or secrets.names_in_text(path.name), FILE_NAME)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return Report(list(notes.found), ["not a regular file"])
        if status.st_size > MAX_FILE_BYTES:
            return Report(list(notes.found), [f"larger than {MAX_FILE_BYTES // 2**20} MiB"])
        with path.open("rb") as opened:
            data = opened.read(status.st_size)
    except OSError as error:
        return Report(list(notes.found), [error.strerror or "no access"])
    with warnings.catch_warnings(record=True) as damage:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        _audit_content(data, path.suffix.lower(), notes)
    if any(issubclass(warning.category, UserWarning) for warning in damage):
        notes.problems.append("damaged metadata")
    unplaced = [name for name in secrets.names_in(data) if notes.named.get(name, [FILE_NAME]) == [FILE_NAME]]
    notes.add_names(unplaced, "bytes of the file")
    if KEY_LINE.search(data):
        notes.add("key-file", "bytes of the file")
    return Report(list(notes.found), list(dict.fromkeys(notes.problems)))


def _audit_content(data: bytes, suffix: str, notes: Notes) -> None:
    if data.startswith(MAGIC):
        _payload(data, "file", notes)
    elif data.startswith(PNG_START):
        with notes.reading("chunks"):
            _png(data, notes)
    elif suffix == ".json":
        with notes.reading("JSON"):
            audit_json(json.loads(_capped(data)), "workflow file", notes)
    elif suffix != ".key":
        with notes.reading("not a picture, workflow or sidecar, or damaged"):
            stream = _Watched(data)
            with Image.open(stream, formats=FORMATS) as picture:
                _picture(picture, data, stream, notes)


def _capped(text: Any) -> Any:
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError("The text is longer than what is parsed.")
    return text


# --- text and JSON ---

HEX_KEY = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
KEY_LINE = re.compile(rb"faceprivacy-(?:face-)?key-1[ \t]+[0-9a-fA-F]{64}")
KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY_NODE = "FacePrivacy_PrivacyKey"
MEDIA = re.compile(r"\.(?:png|jpe?g|webp|gif|bmp|tiff?|heic|avif|jxl|mp4|mov|mkv|webm|avi)(?: \[\w+\])?$", re.IGNORECASE)
USER_FOLDER = re.compile(r"(?:/home/|/Users/|/root/|[A-Za-z]:[\\/]+Users[\\/])")
SECRET_WORD = re.compile(
    r"(?:password|passphrase|passwd|passcode|pwd|secret|token|credential|(?:api|secret|private|access|auth)key|^key)s?$"
)
PASS_WORD = re.compile(r"password|passphrase|secret", re.IGNORECASE)
QUALIFIERS = {"value", "text", "string", "str", "hex", "input", "comfy", "org"}
TEXT_NODE = re.compile(r"primitive|string|text", re.IGNORECASE)
SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name is there to hold a secret: `api_key`, `passphraseText`, not `key_name`."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    while words and words[-1] in QUALIFIERS:
        words.pop()
    return bool(words) and SECRET_WORD.search(words[-1]) is not None


def audit_text(text: str, where: str, notes: Notes) -> None:
    """Search one decoded text: for JSON (also behind `workflow:`), a prompt, known values, key files."""
    document = re.match(r"\s*(?:\w{1,20}:\s*)?(?=[{\[])", text)
    if document:
        with suppress(json.JSONDecodeError):
            audit_json(json.loads(_capped(text[document.end() :].rstrip("\0 \r\n"))), where, notes)
    if "Sampler: " in text.partition("Steps: ")[2]:  # as Stable Diffusion web UI writes it
        notes.add("prompt", where)
    notes.add_names(notes.secrets.names_in_text(text), where)
    if KEY_LINE.search(text.encode("utf-8", "surrogatepass")):
        notes.add("key-file", where)
    if HEX_KEY.fullmatch(text.strip("\0 \r\n")):
        notes.add("digits", where)


def audit_json(document: Any, where: str, notes: Notes) -> None:
    """Search a document: nodes of both forms of workflow, fields named like secrets, and every string."""
    texts: list[str] = []
    nodes: list[_Node] = []
    origins: dict[str, str] = {}
    judged: set[int] = set()
    todo: list[tuple[object, Any]] = [("", document)]
    while todo:
        key, item = todo.pop()
        if isinstance(item, str):
            texts.append(item)
            if item.strip()[:1] + item.strip()[-1:] in ("{}", "[]"):
                audit_text(item, where, notes)
        elif isinstance(item, list):
            todo += [(key, member) for member in item]
            origins |= _link_origins(item) if key == "links" else {}
        elif isinstance(item, dict):
            texts += item
            node = _node(key, item)
            if node:
                nodes.append(node)
                judged |= {id(item.get(part)) for part in ("inputs", "widgets_values")}
            for name, value in item.items() if id(item) not in judged else ():
                if name.lower() not in ("key", "keys") and is_secret_name(name) and isinstance(value, str) and value.strip():
                    notes.add("secret-field", f"{where}, field {notes.label(name)}")
            todo += item.items()
    if nodes or (isinstance(document, dict) and isinstance(document.get("nodes"), list)):
        notes.add("workflow", where)
    feeding = {origins.get(source, source) for node in nodes for source in node.feeds_secret}
    for node in nodes:
        _audit_node(node, node.number in feeding and TEXT_NODE.search(node.kind) is not None, where, notes)
    joined = "\n".join(texts)
    short = {name for text in texts if len(text) < notes.secrets.SHORTEST for name in notes.secrets.names_in_text(text)}
    notes.add_names(short.union(notes.secrets.names_in_text(joined)), where)
    if USER_FOLDER.search(joined):
        notes.add("path", where)


class _Node(NamedTuple):
    number: str
    kind: str
    widgets: list[tuple[str, Any]]
    """Names and values; the name is empty where the file does not tell it."""
    feeds_secret: set[str]
    """Nodes (API form) or links (frontend form) that feed an input named like a secret."""


def _node(key: object, item: dict[str, Any]) -> _Node | None:
    inputs, values = item.get("inputs"), item.get("widgets_values")
    if isinstance(item.get("class_type"), str) and isinstance(inputs, dict):
        sources = {str(value[0]) for name, value in inputs.items() if _is_link(value) and is_secret_name(name)}
        return _Node(str(key), item["class_type"], list(inputs.items()), sources)
    if not isinstance(item.get("type"), str) or not isinstance(values, (list, dict)):
        return None
    slots = [slot for slot in inputs or [] if isinstance(slot, dict)]
    sources = {f"link {slot.get('link')}" for slot in slots if is_secret_name(str(slot.get("name", "")))}
    if isinstance(values, dict):
        widgets = list(values.items())
    else:
        names = [str(slot["widget"].get("name", "")) for slot in slots if isinstance(slot.get("widget"), dict)]
        values = [value for value in values if not (isinstance(value, str) and value in SEED_CONTROLS)]
        if len(names) != len(values):  # which value belongs to which name is not known: suspect all of them
            names = [next((name for name in names if is_secret_name(name)), "")] * len(values)
        widgets = list(zip(names, values, strict=True))
    return _Node(str(item.get("id", "")), item["type"], widgets, sources)


def _link_origins(links: list[Any]) -> dict[str, str]:
    """Return the node each link of the frontend's form comes from; inside subgraphs links are dictionaries."""
    lists = {f"link {link[0]}": str(link[1]) for link in links if isinstance(link, list) and len(link) > 1}
    return lists | {f"link {link.get('id')}": str(link.get("origin_id")) for link in links if isinstance(link, dict)}


def _audit_node(node: _Node, is_secret: bool, where: str, notes: Notes) -> None:
    where = f"{where}, node {notes.label(node.number)} {notes.label(node.kind)}"
    for name, value in node.widgets:
        place = f"{where}, {notes.label(name)}" if name else where
        suspect = is_secret or is_secret_name(name) or (not name and PASS_WORD.search(node.kind))
        for text in _strings(value):
            notes.add_names(notes.secrets.names_in_text(text), place)
            if HEX_KEY.search(text):
                notes.add("hex-key", place)
            elif node.kind == KEY_NODE and name in ("name", ""):
                notes.add("key-name" if KEY_NAME.fullmatch(text) else "not-a-name", place)
            elif suspect:
                notes.add("secret-field", place)
            if MEDIA.search(text.rstrip()[-64:]) or (node.kind.startswith("LoadImage") and name == "image"):
                notes.add("input-name", place)


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts of a widget's value that are not empty; a link to another node has none."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str) and item.strip():
            yield item
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list) and not _is_link(item):
            todo += item


def _payload(data: bytes, where: str, notes: Notes) -> None:
    notes.add("payload", where, f"{len(data)} bytes")
    with notes.reading("the keyed payload"):
        unpack(data)  # a payload that is not one, or has more in it, may carry anything


# --- pictures ---

PNG_START = b"\x89PNG\r\n\x1a\n"
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
PLAIN_CHUNKS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs sPLT oFFs sCAL acTL fcTL fdAT iDOT".split()
)
JPEG_SEGMENTS = {
    "APP0": (b"JFIF\0",),
    "APP1": (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0"),
    "APP12": (b"Ducky",),
    "APP13": (b"Photoshop 3.0\0",),
    "APP14": (b"Adobe",),
}
"""Segments that are looked into, or cannot tell anything about a person."""
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker with a length, or the end; between pixels, 0xff is followed by one of the excepted bytes."""
EXTENDED_XMP, EXTENDED_XMP_HEAD = b"http://ns.adobe.com/xmp/extension/\0", 75
PHOTOSHOP_THUMBNAILS = (0x0409, 0x040C)
POINTERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop)
PLAIN_EXIF = re.compile(r"ExifVersion|FlashPixVersion|ColorSpace|ComponentsConfiguration|CompressedBitsPerPixel|ExifImage\w+")
NAMES = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("location", r"GPS\w*|City|Country\w*|State|ProvinceState|Location\w*|Sub-?location|WorldRegion"),
        ("person", r"(XP)?Author\w*|Artist|Creator|CreatorContactInfo|Ci(Adr|Email|Tel|Url)\w*|Copyright\w*|Rights|ImageEditor"
                   r"|\w*Owner(Name)?|By-?line|CaptionWriter|Credit|Photographer|\w*Person\w*|mwg-rs:(Name|Regions)"),
        ("serial", r"\w*SerialNumber|\w*UniqueID|MakerNote|HostComputer|DeviceSettingDescription"),
        ("embedded", r"\w*Thumbnails?|\w*Preview\w*|SubIFDs|JpgFromRaw|xmpGImg:image|(GImage|GDepth):Data"),
        ("device", r"Make|Model|Lens\w*|UniqueCameraModel|Exposure\w*|Flash\w*"),
        ("software", r"\w*Software|CreatorTool|SoftwareAgent|CameraFirmware|History"),
        ("date", r"\w*Date(:?\w+)?|\w*Time\w*|when"),
        ("prompt", r"(negative_?)?prompts?|AIPrompt\w*|parameters|dream|sd-metadata|invokeai_\w+|generation_data|fooocus_\w+"),
        ("workflow", r"workflow"),
        ("text", r"\w*Comment|\w*Description|\w*Title|\w*Keywords|\w*Subject|DocumentName|PageName|Headline|Caption\w*|Source"),
    )
)  # fmt: skip
"""What a field of this name holds: EXIF tags, XMP properties and PNG keywords share most names. The first match counts."""
IPTC = (
    ("person", (80, 85, 110, 115, 116, 118, 122)), ("location", (26, 27, 90, 92, 95, 100, 101)),
    ("date", (30, 35, 37, 38, 55, 60, 62, 63)), ("software", (65, 70)), ("text", (5, 7, 25, 40, 105, 120, 121)),
)  # fmt: skip


@lru_cache(maxsize=1024)
def _kind_of(*names: str) -> str | None:
    return next((kind for name in names for kind, pattern in NAMES if pattern.fullmatch(name)), None)


class _Watched(io.BytesIO):
    """A file that knows how far it was read."""

    furthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.furthest = max(self.furthest, self.tell())
        return part


def _picture(picture: Any, data: bytes, stream: _Watched, notes: Notes) -> None:
    """Audit a picture that Pillow has opened, other than PNG."""
    is_tiff, is_mpo = picture.format == "TIFF", picture.format == "MPO"
    count = 1
    with notes.reading("frames"):
        count = getattr(picture, "n_frames", 1)
        if count > 1:
            notes.add("embedded" if is_mpo else "frames", "file", f"{count} pictures")
    with notes.reading("end of the image"):
        end = None if is_mpo or is_tiff else _end_of_image(picture.format, data, stream)
        if end is not None:
            _trailing(data[end:], notes)
    with notes.reading("EXIF"):
        if not is_tiff:
            _exif(_loaded_exif(picture.info.get("exif", b"")), notes)
        for page in range(count if is_tiff else 0):
            picture.seek(page)
            _exif(picture.getexif(), notes, has_thumbnail_ifd=False)
            if page and picture.tag_v2.get(254, 0) & 1:
                notes.add("embedded", "TIFF", "a smaller copy")
    if is_tiff:
        picture.seek(0)
    with notes.reading("IPTC"):
        _iptc(IptcImagePlugin.getiptcinfo(picture) or {}, notes)
    with notes.reading("XMP"):
        for packet in _xmp_packets(picture, data):
            _xmp(_decoded(packet), notes)
    if picture.format in ("JPEG", "MPO"):
        with notes.reading("JPEG segments"):
            _segments(picture, notes)
    elif picture.info.get("comment"):
        _free_text(_decoded(picture.info["comment"]), f"{picture.format} comment", notes)


def _png(data: bytes, notes: Notes) -> None:
    """Audit the chunks of a PNG, which Pillow would stop reading at the pixels."""
    stream = PngImagePlugin.PngStream(io.BytesIO(data))
    position, kind = len(PNG_START), b""
    while kind != b"IEND":
        stream.fp.seek(position)
        kind, start, length = stream.read()
        if (position == len(PNG_START)) != (kind == b"IHDR") or start + length + 4 > len(data):
            raise SyntaxError("The PNG is damaged or cut off.")
        if kind not in PLAIN_CHUNKS:
            with notes.reading(f"chunk {kind.decode('latin-1')}"):
                _chunk(stream, kind, data[start : start + length], notes)
        elif kind == b"acTL":
            notes.add("frames", "chunk acTL")
        position = start + length + 4
    _trailing(data[position:], notes)


def _chunk(stream: Any, kind: bytes, chunk: bytes, notes: Notes) -> None:
    if kind in TEXT_CHUNKS:
        stream.im_text.clear()
        stream.call(kind, stream.fp.tell(), len(chunk))
        for keyword, text in stream.im_text.items():
            _png_text(keyword, text, notes)
        is_empty = kind == b"zTXt" and not any(stream.im_text.values()) and len(chunk.partition(b"\0")[2]) > 9
        if not stream.im_text or is_empty:  # Pillow passes over text that it cannot unpack or decode
            raise ValueError("The text cannot be unpacked.")
    elif kind == b"iCCP":
        stream.call(kind, stream.fp.tell(), len(chunk))
        notes.add_names(notes.secrets.names_in(stream.im_info["icc_profile"]), "colour profile")
    elif kind == b"eXIf":
        _exif(_loaded_exif(chunk), notes)
    elif kind == CHUNK:
        _payload(chunk, "chunk fpRv", notes)
    elif kind == b"tIME":
        notes.add("date", "chunk tIME")
    else:
        notes.add("unread", f"chunk {notes.label(kind.decode('latin-1'))}", f"{len(chunk)} bytes")


def _png_text(keyword: str, text: str, notes: Notes) -> None:
    where = f"PNG text {notes.label(keyword)}"
    notes.add_names(notes.secrets.names_in_text(keyword), "keyword of a PNG text")
    if keyword == "XML:com.adobe.xmp":
        _xmp(text, notes)
    elif keyword.lower().startswith("raw profile type"):
        notes.add("unread", where, f"{len(text)} characters")
    else:
        if is_secret_name(keyword) and text.strip():
            notes.add("secret-field", where)
        _free_text(text, where, notes, _kind_of(keyword.replace(" ", ""), keyword.rpartition(":")[2]))
    notes.add_names(notes.secrets.names_in(text.encode("latin-1", "ignore")), where)  # UTF-8 against the standard


def _free_text(text: str, where: str, notes: Notes, kind: str | None = None) -> None:
    """Search a text, and note it under its kind, or as free text when nothing else is known about it."""
    if not text.strip("\0 \r\n"):
        return
    before = len(notes.found)
    audit_text(text, where, notes)
    if kind or len(notes.found) == before:
        notes.add(kind or "text", where)


def _loaded_exif(block: bytes) -> Image.Exif:
    exif = Image.Exif()  # `getexif` says nothing when Pillow has met the damage before
    exif.load(block)
    return exif


def _exif(exif: Image.Exif, notes: Notes, *, has_thumbnail_ifd: bool = True) -> None:
    groups: dict[str, list[str]] = {}
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, value in [*dict(exif).items(), *details.items()]:
        name = ExifTags.TAGS.get(tag, f"tag {tag}")
        text = _decoded(value) if isinstance(value, bytes) else value
        if tag in POINTERS or PLAIN_EXIF.fullmatch(name) or (isinstance(text, str) and not text.strip("\0 ")):
            continue
        kind = _kind_of(name) or ("device" if tag in details else None)
        before = len(notes.found)
        if isinstance(text, str) and kind != "serial":
            audit_text(text, f"EXIF {name}", notes)
        if kind and (len(notes.found) == before or KINDS[kind].level == PERSONAL):
            groups.setdefault(kind, []).append(name)
    places = [ExifTags.GPSTAGS.get(tag, f"tag {tag}") for tag in exif.get_ifd(ExifTags.IFD.GPSInfo) if tag != 0]
    if places:
        groups.setdefault("location", []).extend(places)
    for kind, names in groups.items():
        notes.add(kind, f"EXIF {', '.join(dict.fromkeys(names))}")
    if has_thumbnail_ifd and exif.get_ifd(ExifTags.IFD.IFD1):
        notes.add("embedded", "EXIF thumbnail (IFD1)")


def _xmp_packets(picture: Any, data: bytes) -> list[bytes]:
    """Return the XMP that Pillow knows of, the extension of JPEG, else what looks like XMP in the bytes."""
    packets = [picture.info[name] for name in ("xmp",) if picture.info.get(name)]
    segments = [body for _, body in getattr(picture, "applist", ()) if body.startswith(EXTENDED_XMP)]
    if segments:
        packets.append(b"".join(body[EXTENDED_XMP_HEAD:] for body in segments))
    start = -1 if packets else data.find(b"<x:xmpmeta")
    while start >= 0:
        end = data.find(b"</x:xmpmeta>", start)
        packets.append(data[start : end if end >= 0 else start + MAX_TEXT_BYTES])
        start = data.find(b"<x:xmpmeta", start + len(packets[-1]))
    return packets


def _xmp(packet: str, notes: Notes) -> None:
    """Search an XMP packet by the names in it; a parser of XML would only offer ways to attack it."""
    notes.add("xmp", "XMP")
    notes.add_names(notes.secrets.names_in_text(html.unescape(_capped(packet))), "XMP")
    groups: dict[str, list[str]] = {}
    for prefix, name in re.findall(r"[<\s]([\w-]+):([\w.-]+)(?=[\s>/=])", packet):
        kind = _kind_of(f"{prefix}:{name}", name)
        if kind and prefix not in ("rdf", "xml", "xmlns"):
            groups.setdefault(kind, []).append(notes.label(name))
    for kind, names in groups.items():
        notes.add(kind, f"XMP {', '.join(dict.fromkeys(names))}")
    for piece in re.findall(r""">([^<]{2,})<|="([^"]{2,})"|='([^']{2,})'""", packet):
        audit_text(html.unescape("".join(piece)), "XMP", notes)


def _iptc(fields: Mapping[tuple[int, int], Any], notes: Notes) -> None:
    for kind, numbers in IPTC:
        found = [f"2:{number}" for number in numbers if fields.get((2, number))]
        if found:
            notes.add(kind, f"IPTC {', '.join(found)}")
    for (record, number), value in fields.items():
        for text in value if isinstance(value, list) else [value]:
            audit_text(_decoded(text), f"IPTC {record}:{number}", notes)


def _segments(picture: Any, notes: Notes) -> None:
    for name, body in picture.applist:
        if name == "COM":
            _free_text(_decoded(body), "JPEG comment", notes)
        elif body.startswith(b"JFXX\0") or (body.startswith(b"JFIF\0") and body[12:13] > b"\0" and body[13:14] > b"\0"):
            notes.add("embedded", "JFIF thumbnail")
        elif not body.startswith(JPEG_SEGMENTS.get(name, ())):
            notes.add("unread", f"JPEG segment {name}", f"{len(body)} bytes")
    if any(picture.info.get("photoshop", {}).get(code) for code in PHOTOSHOP_THUMBNAILS):
        notes.add("embedded", "Photoshop thumbnail")


def _decoded(raw: bytes) -> str:
    """Decode text whose coding the file does not tell, or tells as EXIF's UserComment does."""
    body = re.sub(rb"\A(?:UNICODE\0|ASCII\0{3}|JIS\0{5}|\0{8})", b"", raw)
    high, low = body[0::2].count(0), body[1::2].count(0)
    if raw.startswith(b"UNICODE\0") or body.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * max(high, low) > len(body):
        return body.decode("utf-16-be" if high > low or body.startswith(b"\xfe\xff") else "utf-16-le", "replace")
    return body.decode("utf-8", "replace")


def _trailing(rest: bytes, notes: Notes) -> None:
    if rest.strip(b"\0\r\n "):
        notes.add("trailing", "end of the file", f"{len(rest)} bytes")


def _end_of_image(kind: str, data: bytes, stream: _Watched) -> int | None:
    """Return where the image ends, None where its format does not say."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") or None
    if kind == "GIF":
        return stream.furthest  # counting the frames has read it to its end
    position = 2
    while kind == "JPEG":  # Pillow does not tell where its decoder stopped
        marker = JPEG_MARKER.search(data, position)
        if marker is None:
            raise EOFError("The JPEG is cut off.")
        if marker[0] == b"\xff\xd9":
            return marker.end()
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return None
