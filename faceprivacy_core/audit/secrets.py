"""The values that must occur nowhere, and the search for all their forms."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

HEX_KEY = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
KEY_LINE = re.compile(rb"faceprivacy-(?:face-)?key-1[ \t]+[0-9a-fA-F]{64}")


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
