"""What a key file says.

    # comments
    faceprivacy-key-1 KEY                  or    faceprivacy-face-key-1 KEY
    decrypt-in-server: no                  may be missing, then it is no
    header: SHA256                         released keys: of the one header they open

KEY and SHA256 are 64 hexadecimal digits. Nothing here raises: an error would carry the content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_KEY_FILE_BYTES = 4096
RAW_KEY_TAG, FACE_KEY_TAG = "faceprivacy-key-1", "faceprivacy-face-key-1"
_COMMENT = "# Whoever has this file can bring back the original faces. Keep it private, and keep a copy."
_KEY_LINE = re.compile(rf"({RAW_KEY_TAG}|{FACE_KEY_TAG}) ([0-9a-fA-F]{{64}})")
_OTHER_LINE = re.compile(r"(decrypt-in-server): (yes|no)|(header): ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class KeyText:
    """Contents of a key file; shows no key.

    Attributes:
        raw: 32 bytes.
        is_face_key: Whether it is the released key of one face.
        decrypts_in_server: Whether a server may decrypt with it.
        header_digest: 32 bytes, or None.
    """

    raw: bytes = field(repr=False)
    is_face_key: bool
    decrypts_in_server: bool
    header_digest: bytes | None = None

    def lines(self) -> str:
        """Return the text of the file."""
        lines = [_COMMENT, f"{FACE_KEY_TAG if self.is_face_key else RAW_KEY_TAG} {self.raw.hex()}"]
        lines.append(f"decrypt-in-server: {'yes' if self.decrypts_in_server else 'no'}")
        if self.header_digest is not None:
            lines.append(f"header: {self.header_digest.hex()}")
        return "\n".join(lines) + "\n"


def parse_key_text(content: bytes) -> KeyText | None:
    """Read a key file; None when anything else is in it."""
    if len(content) > MAX_KEY_FILE_BYTES:
        return None
    try:
        lines = [line for line in content.decode("utf-8").splitlines() if line and not line.startswith("#")]
    except UnicodeDecodeError:
        return None
    key = _KEY_LINE.fullmatch(lines[0]) if lines else None
    found = [_OTHER_LINE.fullmatch(line) for line in lines[1:]]
    if key is None or None in found:
        return None
    pairs = [(match[1] or match[3], match[2] or match[4]) for match in found if match is not None]
    others = dict(pairs)
    if len(others) != len(pairs) or ("header" in others and key[1] != FACE_KEY_TAG):
        return None
    digest = bytes.fromhex(others["header"]) if "header" in others else None
    allowed = others.get("decrypt-in-server") == "yes"
    return KeyText(bytes.fromhex(key[2]), key[1] == FACE_KEY_TAG, allowed, digest)
