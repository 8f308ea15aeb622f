"""One file: what it is decides how it is searched.

Pictures are read by Pillow and not decoded; what Pillow cannot read is a problem of the report, not silence.
"""

from __future__ import annotations

import json
import stat
import warnings
from pathlib import Path

from PIL import Image

from ..faces.people_files import FORMAT, HEADER_BYTES
from ..faces.people_files import SUFFIX as PERSON_SUFFIX
from ..inversions.contents import UNPROTECTED, from_bytes
from ..inversions.files import SUFFIX as INVERSION_SUFFIX
from ..inversions.sealed import check_sealed, is_sealed
from ..keyed.container import MAGICS
from .blocks import audit_payload
from .findings import KINDS, NOTE, Report
from .notes import Notes
from .pictures import WatchedBytes, audit_picture
from .png import PNG_START, audit_png
from .secrets import KEY_LINE, Secrets
from .signatures import begins_again
from .text import audit_json, capped
from .workflows import WORKFLOW_FILE

MAX_FILE_BYTES = 512 * 2**20
FILE_NAME = "name of the file"
PERSON_FORMAT = FORMAT.encode("ascii")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
TIFF_STARTS = (b"II", b"MM")


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
    if data.startswith(tuple(MAGICS.values())):
        audit_payload(data, "file", notes)
    elif is_sealed(data):
        notes.add("payload", "file", f"{len(data)} bytes")
        with notes.reading("the sealed inversion"):
            check_sealed(data)
    elif suffix == INVERSION_SUFFIX:
        with notes.reading("the saved inversion"):
            from_bytes(data, UNPROTECTED)
            notes.add("faces", "file")
    elif suffix == PERSON_SUFFIX or PERSON_FORMAT in data[:HEADER_BYTES]:
        notes.add("identity", "file")
    elif data.startswith(PNG_START):
        with notes.reading("chunks"):
            audit_png(data, notes)
        _audit_beginnings(data, notes)
    elif suffix == ".json":
        with notes.reading("JSON"):
            audit_json(json.loads(capped(data)), WORKFLOW_FILE, notes)
    elif suffix != ".key":
        with notes.reading("not a picture, workflow or sidecar, or damaged"):
            stream = WatchedBytes(data)
            with Image.open(stream, formats=FORMATS) as picture:
                audit_picture(picture, data, stream, notes)
            _audit_beginnings(data, notes)


def _audit_beginnings(data: bytes, notes: Notes) -> None:
    """Note a further picture in bytes that nothing else was found to be wrong with."""
    is_said = any(KINDS[finding.kind].level != NOTE for finding in notes.found)
    if not is_said and begins_again(data, is_tiff=data.startswith(TIFF_STARTS)):
        notes.add("embedded", "bytes of the file")
