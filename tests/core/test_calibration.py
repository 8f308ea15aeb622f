"""Thresholds belong to the weights they were measured on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faceprivacy_core import weights
from faceprivacy_core.errors import ModelFileError
from faceprivacy_core.faces.calibration import CALIBRATION_FILE, FMRS, load_calibration
from faceprivacy_core.faces.recognizers import RECOGNIZER_NAMES


@pytest.mark.parametrize("name", RECOGNIZER_NAMES)
def test_every_recogniser_is_calibrated_for_the_weights_of_the_table(name: str):
    measured = load_calibration(name, weights.entry(name).sha256)
    assert -1 < measured.thresholds[0.01] < measured.thresholds[0.001] < 1
    assert set(measured.thresholds) == set(measured.fnmr) == set(FMRS)
    assert measured.num_impostor_pairs * 0.001 >= 10, "too few pairs for a rate of 1 in 1000"
    assert measured.num_genuine_pairs > 100


def test_the_smaller_threshold_protects_and_the_larger_spares():
    document = json.loads(CALIBRATION_FILE.read_text(encoding="utf-8"))
    assert len(document["recognizers"]) >= len(RECOGNIZER_NAMES)
    for record in document["recognizers"]:
        loaded = load_calibration(record["name"], record["sha256"])
        for fmr in FMRS:
            measured = [record["bases"][name][str(fmr)]["threshold"] for name in ("generated_faces", "photos")]
            assert loaded.thresholds[fmr] == min(measured)
            assert loaded.spare_thresholds[fmr] == max(measured)


def test_other_weights_and_unknown_names_are_refused():
    with pytest.raises(ModelFileError, match="Thresholds of other weights mean nothing"):
        load_calibration("sface", "0" * 64)
    with pytest.raises(ModelFileError, match="no calibration"):
        load_calibration("nobody", "0" * 64)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"none\.json"):
        load_calibration("sface", "0" * 64, tmp_path / "none.json")
