"""Colour profiles: what of them is no colour."""

from __future__ import annotations

import struct

from .notes import Notes
from .signatures import begins_again

COLOUR_TAGS = frozenset(
    b"A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 D2B0 D2B1 D2B2 D2B3 B2D0 B2D1 B2D2 B2D3 bXYZ bTRC gXYZ gTRC rXYZ rTRC kTRC wtpt bkpt chad "
    b"chrm cicp clro clrt clot ciis gamt lumi meas pre0 pre1 pre2 rig0 rig2 rig1 resp tech view vued vcgt ndin aarg aagg aabg "
    b"mmod desc dscm dmnd dmdd cprt calt pseq psid targ".split()
)
"""Tags of the standard, and those that display calibration adds; texts among them name profiles and devices."""

MAX_TEXT_BYTES, MAX_CURVE_BYTES = 4096, 2**16
TEXT_TAGS = frozenset((b"desc", b"dscm", b"dmnd", b"dmdd", b"cprt", b"targ", b"vued"))
TABLES = frozenset(b"A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 D2B0 D2B1 D2B2 D2B3 B2D0 B2D1 B2D2 B2D3 gamt pre0 pre1 pre2".split())
"""Tags that may be large; the others are curves, places and names."""


def audit_icc(profile: bytes, notes: Notes) -> None:
    """Note parts of a colour profile that tell nothing about colour, and could hold anything.

    Raises:
        struct.error: It is damaged.
    """
    notes.add_names(notes.secrets.names_in(profile), "colour profile")
    (size,), (count,) = struct.unpack_from(">I", profile), struct.unpack_from(">I", profile, 128)
    spans = [(0, 132 + 12 * min(count, 4096))]
    for index in range(min(count, 4096)):
        name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        spans.append((offset, offset + length))
        longest = len(profile) if name in TABLES else MAX_TEXT_BYTES if name in TEXT_TAGS else MAX_CURVE_BYTES
        if name not in COLOUR_TAGS or length > longest:
            notes.add("unread", f"colour profile, tag {notes.label(name.decode('latin-1'))}", f"{length} bytes")
    if begins_again(profile):
        notes.add("embedded", "colour profile")
    reached = rest = 0
    for start, end in [*sorted(spans), (len(profile), len(profile))]:
        if start > reached and profile[reached:start].strip(b"\0"):
            rest += start - reached
        reached = max(reached, end)
    if rest or size < len(profile.rstrip(b"\0")):
        notes.add("unread", "colour profile, outside its tags", f"{max(rest, len(profile) - size)} bytes")
