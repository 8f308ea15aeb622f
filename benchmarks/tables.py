"""Writes the tables of README and docs from the results in the repository.

    python -m benchmarks.tables [--check]

A table stands between `<!-- table NAME -->` and `<!-- end of table -->`; what is between them is written anew from
`benchmarks/results/NAME.json`, or, where NAME is `thresholds`, from the calibration of the recognisers. A series that was
measured with another model file than the one that ships is marked with the first digits of its sha256; a table whose results
hold no series says that nothing was measured yet. With --check nothing
is written, and the exit status says whether anything would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.origin import shipped_model
from benchmarks.pictures import ROOT
from benchmarks.results import FOLDER, ROWS
from faceprivacy_core.faces.calibration import CALIBRATION_FILE, FMRS

THRESHOLDS = "thresholds"
END = "<!-- end of table -->"
BLOCK = re.compile(r"(<!-- table ([a-z0-9_]+) -->\n)(.*?)(<!-- end of table -->|(?=<!-- table )|\Z)", re.DOTALL)
DIGITS = 8
NOTHING_YET = "*Not measured with this model file yet.*"


def documents() -> list[Path]:
    """List the files that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def fill(text: str, folder: Path = FOLDER, shipped: str | None = None) -> str:
    """Write every table of a text anew.

    Args:
        text: Markdown with markers.
        folder: Where results are.
        shipped: The sha256 of the model that ships; None looks it up.

    Raises:
        SystemExit: A table has no end or no results.
    """

    def replace(block: re.Match[str]) -> str:
        start, name, _, end = block.groups()
        if end != END:
            raise SystemExit(f"Expected {END} after the table {name}, found none. Add it.")
        return f"{start}{thresholds() if name == THRESHOLDS else results(name, folder, shipped or shipped_model())}\n{end}"

    return BLOCK.sub(replace, text)


def results(name: str, folder: Path, shipped: str) -> str:
    """Lay the results of a table out in Markdown."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise SystemExit(f"Expected results for the table {name} in {path}, found none. Run its benchmark with --publish.")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    series = document["series"]
    if not series:
        return NOTHING_YET
    titles = list(dict.fromkeys(title for item in series for title in item["cells"]))
    heads = [f"{item['title']}, {item['faces']} faces{_mark(item, shipped)}" for item in series]
    grid = [[item["cells"].get(title, "-") for title in titles] for item in series]
    if document["series_are"] == ROWS:
        text = _lay_out(["", *titles], [[head, *row] for head, row in zip(heads, grid, strict=True)])
    else:
        text = _lay_out(["", *heads], [[title, *cells] for title, cells in zip(titles, zip(*grid, strict=True), strict=True)])
    marked = any(_mark(item, shipped) for item in series)
    return f"{text}\n\nMarked: measured with an earlier model file, whose sha256 begins so." if marked else text


def thresholds(path: Path = CALIBRATION_FILE) -> str:
    """Lay out the thresholds of all recognisers, with what they were measured on."""
    lines = []
    for record in json.loads(path.read_text(encoding="utf-8"))["recognizers"]:
        for basis, measured in record["bases"].items():
            counts = [f"{measured[pairs]:,}" for pairs in ("impostor_pairs", "genuine_pairs")]
            cells = [record["name"], basis.replace("_", " "), *counts]
            for fmr in FMRS:
                of = measured[str(fmr)]
                cells.append(_with_interval(of, "threshold", 1.0, 3))
                cells.append(_with_interval(of, "test_fmr", 100.0, 2) + (" %" if "test_fmr" in of else ""))
                cells.append(_with_interval(of, "fnmr", 100.0, 1) + " %")
            lines.append(cells)
    rates = [f"{title} {fmr:g}" for fmr in FMRS for title in ("threshold at", "strangers of the other half at", "missed at")]
    return _lay_out(["recogniser", "basis", "pairs of strangers", "pairs of one person", *rates], lines)


def _with_interval(measured: dict[str, Any], key: str, factor: float, digits: int) -> str:
    if key not in measured:
        return "-"
    interval = [f"{factor * value:.{digits}f}" for value in measured.get(f"{key}_ci95", [])]
    return f"{factor * measured[key]:.{digits}f}" + (f" ({' to '.join(interval)})" if interval else "")


def _mark(series: dict[str, Any], shipped: str) -> str:
    return "" if series["model_sha256"] == shipped else f" (model {series['model_sha256'][:DIGITS]})"


def _lay_out(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say which files would change")
    options = parser.parse_args(arguments)
    changed = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        filled = fill(text)
        if filled != text:
            changed.append(path.name)
            if not options.check:
                path.write_text(filled, encoding="utf-8", newline="\n")
    print(f"{'To be written' if options.check else 'Written'}: {', '.join(changed) or 'nothing'}")  # noqa: T201
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
