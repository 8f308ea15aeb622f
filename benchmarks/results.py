"""Results in the repository, from which the tables of README and docs are written; see `tables.py`.

`results/NAME.json` holds series: one method, mode or setting with its cells, and what it was measured with. A series that is
published again takes the place of the one with its title; the others stay, each with its own origin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.origin import Origin
from benchmarks.pictures import ROOT

FOLDER = ROOT / "benchmarks" / "results"
COLUMNS, ROWS = "columns", "rows"


def publish(
    name: str, title: str, cells: Mapping[str, str], faces: int, origin: Origin, *, as_rows: bool = False, folder: Path = FOLDER
) -> Path:
    """Put one series into the results of a table.

    Args:
        name: Of the table.
        title: Of the series.
        cells: What was measured, by the title of each cell, in order.
        faces: How many faces are behind it.
        origin: What it was measured with.
        as_rows: Whether a series is a row of the table rather than a column.
        folder: Where results are.

    Returns:
        The file.
    """
    path = folder / f"{name}.json"
    known: dict[str, Any] = {"series_are": ROWS if as_rows else COLUMNS, "series": []}
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
    series = {"title": title, "faces": faces, **vars(origin), "cells": dict(cells)}
    titles = [item["title"] for item in known["series"]]
    if title in titles:
        known["series"][titles.index(title)] = series
    else:
        known["series"].append(series)
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
