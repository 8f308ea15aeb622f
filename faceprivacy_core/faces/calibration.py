"""Measured decision thresholds of the recognisers.

Two measurements stand in the calibration file, each with its population, counts and intervals: on generated faces, which
resemble each other more than people do, and on photos. Where protection is judged, the smaller threshold counts: it
takes two pictures for one person sooner, so that a report never calls a face protected that one of
them would not. Where a face is to be left alone because of whose it is, the larger one counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelFileError

CALIBRATION_FILE = Path(__file__).with_name("calibration.json")
FMRS = (0.01, 0.001)
"""False match rates at which thresholds are given (ISO/IEC 19795-1 terms)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds of one recogniser.

    Attributes:
        name: Recogniser.
        sha256: Of the weights file that was measured.
        thresholds: Similarity from which two photos count as one person, by false match rate.
        spare_thresholds: Similarity from which a face is surely enough somebody's to stay
            unprotected, by false match rate.
        fnmr: Part of the genuine pairs below the threshold, by false match rate.
        num_impostor_pairs: Pairs of different people behind the thresholds.
        num_genuine_pairs: Pairs of one person behind the false non-match rates.
    """

    name: str
    sha256: str
    thresholds: dict[float, float]
    spare_thresholds: dict[float, float]
    fnmr: dict[float, float]
    num_impostor_pairs: int
    num_genuine_pairs: int


def load_calibration(name: str, sha256: str, path: Path = CALIBRATION_FILE) -> Calibration:
    """Load the thresholds of a recogniser.

    Args:
        name: Recogniser.
        sha256: Of the weights in use.
        path: Calibration file.

    Raises:
        ModelFileError: There is no calibration, or it was measured on other weights.
    """
    if not path.is_file():
        raise ModelFileError(f"Expected the calibration file {path}, found none. Install the package again.")
    records = json.loads(path.read_text(encoding="utf-8"))["recognizers"]
    record: dict[str, Any] | None = next((item for item in records if item["name"] == name), None)
    if record is None or record["sha256"] != sha256:
        measured = "no calibration" if record is None else f"one of weights with sha256 {record['sha256'][:12]}..."
        raise ModelFileError(
            f"Expected a calibration of the recogniser {name!r} for weights with sha256 "
            f"{sha256[:12]}..., got {measured}. Thresholds of other weights mean nothing; use the "
            "published file, or measure: python -m benchmarks.calibrate_recognizers --pairs FOLDER."
        )
    chosen = {fmr: _strictest(record["bases"], fmr) for fmr in FMRS}
    return Calibration(
        name=name,
        sha256=sha256,
        thresholds={fmr: float(record["bases"][basis][str(fmr)]["threshold"]) for fmr, basis in chosen.items()},
        spare_thresholds={
            fmr: max(float(measured[str(fmr)]["threshold"]) for measured in record["bases"].values()) for fmr in FMRS
        },
        fnmr={fmr: float(record["bases"][basis][str(fmr)]["fnmr"]) for fmr, basis in chosen.items()},
        num_impostor_pairs=min(int(record["bases"][basis]["impostor_pairs"]) for basis in chosen.values()),
        num_genuine_pairs=min(int(record["bases"][basis]["genuine_pairs"]) for basis in chosen.values()),
    )


def _strictest(bases: dict[str, Any], fmr: float) -> str:
    """Return the name of the measurement with the smaller threshold at this rate."""
    return min(bases, key=lambda basis: bases[basis][str(fmr)]["threshold"])
