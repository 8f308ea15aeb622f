"""What the published table says of one way to cloak: who is deceived, what it looks like, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cloak_rows import HELD_OUT, RATES, SEEN, beside, looks, mean, percent, protection
from benchmarks.cloak_scenes import CHANGES, Row

DECEIVED = "deceived at 1 in 100, at 1 in 1,000"


def describe(rows: Sequence[Row]) -> dict[str, str]:
    """Return cells by title.

    A recogniser is deceived when it takes two pictures for two people: the cloaked one and its original, or the cloaked one
    and another photograph of the person, beside which stands how often that happens to the original.

    Args:
        rows: Of one way, none refused.
    """
    results = rows[0]["recognizers"]
    held_out = [result["name"] for result in results if result["role"] == HELD_OUT]
    together = [all(protection(row, SEEN)) for row in rows]
    cells = {"all that were attacked deceived at once, at 1 in 100": f"{percent(together)} of {len(rows)}"}
    has_other = any(beside(row, RATES[0]) for row in rows)
    for name in (*held_out, None):
        who = name or "held out, together"
        cells[f"{who}, original: {DECEIVED}"] = _shares([_same(rows, rate, name) for rate in RATES])
        if has_other:
            after, before = ([_other(rows, rate, side, name) for rate in RATES] for side in ("after", "before"))
            cells[f"{who}, another photo: {DECEIVED}"] = f"{_shares(after)} (not cloaked {_shares(before)})"
    for change in CHANGES:
        changed = [
            row["changed"][change][result["name"]] < result["threshold_fmr_1e-2"]
            for row in rows
            for result in row["recognizers"]
            if result["role"] == HELD_OUT
        ]
        cells[f"held out, together, original, after {change}: deceived at 1 in 100"] = f"{percent(changed)} of {len(changed)}"
    cells["face crop: PSNR (dB), SSIM, LPIPS"] = ", ".join(looks(rows, "crop"))
    cells["inside the mask: PSNR (dB), SSIM, LPIPS"] = ", ".join(looks(rows, "inside"))
    return cells | {"seconds of one processor, a face": f"{mean(rows, 'cpu_seconds'):.1f}"}


def _same(rows: Sequence[Row], rate: str, name: str | None) -> list[bool]:
    return [decision for row in rows for decision in protection(row, HELD_OUT, rate, name)]


def _other(rows: Sequence[Row], rate: str, side: str, name: str | None) -> list[bool]:
    return [decision for row in rows for decision in beside(row, rate, side, name)]


def _shares(decisions: Sequence[Sequence[bool]]) -> str:
    return ", ".join(map(percent, decisions)) + f" of {len(decisions[0])}"
