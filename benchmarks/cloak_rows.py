"""Rows of the cloaking benchmark: reading, counting decisions, averaging, laying out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.cloak_scenes import Row

SEEN, HELD_OUT = "seen", "held out"
RATES = ("1e-2", "1e-3")
GENERATED_RATE = "1e-2 of generated"
"""Threshold that 1 in 100 pairs of different generated faces exceed; they resemble each other more than people do."""

LIMITS = {"1e-2": "threshold_fmr_1e-2", "1e-3": "threshold_fmr_1e-3", GENERATED_RATE: "generated_fmr_1e-2"}


def read_rows(folder: Path, task: str) -> list[Row]:
    """Read the rows of all parts of a task."""
    files = sorted(folder.glob(f"{task}[0-9]*of[0-9]*.jsonl"), key=lambda file: file.stat().st_mtime)
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def protection(row: Row, role: str | None = None, rate: str = "1e-2", name: str | None = None) -> list[bool]:
    """Say for the recognisers of a role, or for one, whether they take the face for another person."""
    return [
        result["similarity"] < result[LIMITS[rate]]
        for result in row["recognizers"]
        if role in (None, result["role"]) and name in (None, result["name"])
    ]


def beside(row: Row, rate: str, side: str = "after", name: str | None = None) -> list[bool]:
    """Say for held-out recognisers, or for one, whether they take a picture and another photo of the person for two people."""
    return [
        not result["other"][f"verified_{side}_fmr_{rate}"]
        for result in row["recognizers"]
        if result["role"] == HELD_OUT and "other" in result and name in (None, result["name"])
    ]


def percent(values: Sequence[bool]) -> str:
    """Write a share."""
    return f"{100 * np.mean(values):.1f} %" if len(values) else "-"


def pooled(rows: Sequence[Row], **which: str | None) -> list[bool]:
    """Collect the decisions of several faces."""
    return [decision for row in rows for decision in protection(row, **which)]


def mean(rows: Sequence[Row], *keys: str) -> float:
    """Average a number over the rows; None counts as missing."""
    values = []
    for row in rows:
        value = row
        for key in keys:
            value = value.get(key) if value is not None else None
        values += [] if value is None else [value]
    return float(np.mean(values)) if values else float("nan")


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay cells out in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def by_variant(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows that were not refused."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["variant"], [])
        if "refused" not in row:
            groups[row["variant"]].append(row)
    return {name: found for name, found in groups.items() if found}


def refusals(rows: Sequence[Row]) -> list[str]:
    """Say how many faces were refused, and why."""
    found = [row for row in rows if "refused" in row]
    return [f"Refused: {len(found)} of {len(rows)} rows, the first with: {found[0]['refused']}"] if found else []


def looks(rows: Sequence[Row], place: str) -> list[str]:
    """Write PSNR, SSIM and LPIPS of the face crop (`crop`) or of the mask (`inside`)."""
    return [f"{mean(rows, place, 'psnr_db'):.2f}", f"{mean(rows, place, 'ssim'):.3f}", f"{mean(rows, place, 'lpips'):.3f}"]
