"""What the name of a field tells about its value."""

from __future__ import annotations

import re
from functools import lru_cache

SECRET_WORD = re.compile(
    r"(?:password|passphrase|passwd|passcode|pwd|secret|token|credential|(?:api|secret|private|access|auth)key|^key)s?$"
)
QUALIFIERS = {"value", "text", "string", "str", "hex", "input", "comfy", "org"}
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


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name is there to hold a secret: `api_key`, `passphraseText`, not `key_name`."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    while words and words[-1] in QUALIFIERS:
        words.pop()
    return bool(words) and SECRET_WORD.search(words[-1]) is not None


@lru_cache(maxsize=1024)
def kind_of(*names: str) -> str | None:
    """Return the kind of finding that the first telling name stands for, None when none tells anything."""
    return next((kind for name in names for kind, pattern in NAMES if pattern.fullmatch(name)), None)
