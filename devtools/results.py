"""Save what a run gave under plain names, and read the privacy report leniently."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.client import ComfyClient, Outcome

COUNTER = re.compile(r"_\d+_$")
IMAGE_KEYS = ("images", "gifs")


@dataclass(frozen=True)
class Verdict:
    """What one recogniser says about one face."""

    face: int
    recognizer: str
    role: str
    similarity: float | None
    threshold: float | None
    is_verified: bool | None

    def row(self) -> tuple[str, ...]:
        """Return the verdict as texts for a table."""
        answers = {True: "recognised", False: "not recognised", None: "unknown"}
        return (
            str(self.face),
            self.recognizer,
            self.role,
            _figure(self.similarity),
            _figure(self.threshold),
            answers[self.is_verified],
        )


HEADINGS = ("face", "recogniser", "role", "similarity", "threshold", "same person?")


def read_report(report: Mapping[str, Any]) -> list[Verdict]:
    """Return one verdict per face and recogniser; what is missing becomes `None`."""
    verdicts = []
    for index, face in enumerate(_dicts(report.get("faces"))):
        for entry in _dicts(face.get("recognizers")):
            similarity = entry.get("similarity")
            threshold = entry.get("threshold_fmr_1e-3", entry.get("threshold"))
            verified = entry.get("verified")
            if verified is None and similarity is not None and threshold is not None:
                verified = similarity >= threshold
            verdicts.append(
                Verdict(
                    int(face.get("index", index)),
                    str(entry.get("name", "?")),
                    str(entry.get("role", "")),
                    similarity,
                    threshold,
                    verified,
                )
            )
    return verdicts


def table(verdicts: list[Verdict]) -> list[str]:
    """Return the verdicts as lines of equal columns."""
    rows = [HEADINGS, *(verdict.row() for verdict in verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def save_outputs(client: ComfyClient, outcome: Outcome, folder: Path) -> list[Path]:
    """Save every picture and text of a run; the names follow the nodes' file name prefixes."""
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    for node_id, output in outcome.outputs.items():
        kind = str(outcome.prompt.get(node_id, {}).get("class_type", "output"))
        for image in _images(output):
            path = _unused(folder, _picture_name(kind, image), saved)
            path.write_bytes(client.fetch(image))
            saved.append(path)
        for text in _texts(output):
            is_json = _is_json(text)
            stem = "report" if "Report" in kind else kind
            path = _unused(folder, f"{stem}.{'json' if is_json else 'txt'}", saved)
            path.write_text(text, encoding="utf-8")
            saved.append(path)
    return saved


def _picture_name(kind: str, image: Mapping[str, str]) -> str:
    name = Path(image["filename"])
    is_preview = image.get("type") == "temp"
    if is_preview and "Report" in kind:
        return f"report{name.suffix}"
    stem = kind.lower() if is_preview else COUNTER.sub("", name.stem)
    return f"{stem}{name.suffix}"


def _unused(folder: Path, name: str, saved: list[Path]) -> Path:
    """Return a path that this run has not written yet; older runs are overwritten."""
    path, number = folder / name, 2
    while path in saved:
        path = folder / f"{Path(name).stem}_{number}{Path(name).suffix}"
        number += 1
    return path


def _images(output: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    for key in IMAGE_KEYS:
        for image in _dicts(output.get(key)):
            if "filename" in image:
                yield image


def _texts(output: Mapping[str, Any]) -> Iterator[str]:
    for value in output.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str):
                yield item


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
