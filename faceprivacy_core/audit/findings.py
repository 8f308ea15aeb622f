"""What an audit may find, and how grave that is.

A finding says what there is and where, never its value: the report of an audit may be shown to anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

SECRET, PERSONAL, NOTE = "secret", "personal", "note"


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
    "faces": Kind(PERSONAL, "faces that whoever has the file can draw again", "Seal it with a key, or do not pass it on."),
    "identity": Kind(PERSONAL, "a person's identity vectors, which find the person in other pictures", "Do not pass it on."),
    "embedded": Kind(PERSONAL, "a further picture inside, which may show the original face", _NO_METADATA),
    "unread": Kind(PERSONAL, "a block that cannot be looked into", "Save the picture anew without it."),
    "trailing": Kind(PERSONAL, "data behind the end of the image", "Save the picture anew; it may be a video or the original."),
    "path": Kind(PERSONAL, "a folder of a user's computer", "Take the path out, or pass the file on without the workflow."),
    "original-name": Kind(PERSONAL, "the file name of the picture that it was made from", _NO_METADATA),
    "prompt": Kind(NOTE, "a prompt", "Save without metadata if nobody shall read it."),
    "workflow": Kind(NOTE, "a workflow with its settings", "Save without metadata if nobody shall read it."),
    "input-name": Kind(NOTE, "the file name of an input", "Rename the input, or pass the file on without the workflow."),
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
