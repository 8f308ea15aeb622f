"""Results are saved under plain names, and reports are read even when parts are missing."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from devtools.client import Outcome
from devtools.console import progress_line
from devtools.paths import ROOT
from devtools.results import read_report, save_outputs, table
from devtools.testing import Tally

REPORT = {
    "faces": [
        {
            "index": 0,
            "recognizers": [
                {
                    "name": "sface",
                    "role": "seen",
                    "similarity": 0.12,
                    "threshold_fmr_1e-3": 0.378,
                    "verified": False,
                },
                {"name": "facenet", "role": "held out", "similarity": 0.6, "threshold": 0.533},
            ],
        },
        {"recognizers": [{"name": "sface"}]},
    ]
}


class _Fetcher:
    def fetch(self, image: dict[str, str]) -> bytes:
        return image["filename"].encode()


def _image(name: str, kind: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": "", "type": kind}


def test_report_gives_one_verdict_per_face_and_recogniser() -> None:
    verdicts = read_report(REPORT)
    assert [(verdict.face, verdict.is_verified) for verdict in verdicts] == [
        (0, False),
        (0, True),
        (1, None),
    ]
    lines = table(verdicts)
    assert len(lines) == 4
    assert lines[1].split() == ["0", "sface", "seen", "0.120", "0.378", "not", "recognised"]


@pytest.mark.parametrize("report", [{}, {"faces": None}, {"faces": [1]}, {"faces": [{}]}])
def test_report_without_verdicts_is_empty(report: dict[str, Any]) -> None:
    assert read_report(report) == []


def test_outputs_are_named_by_prefix_and_never_overwrite_each_other(tmp_path: Path) -> None:
    outputs = {
        "4": {"images": [_image("anonymized_00001_.png"), _image("anonymized_00002_.png")]},
        "5": {"images": [_image("abc_00001_.png", "temp")], "text": [json.dumps(REPORT)]},
        "6": {"text": ["plain"], "animated": [False]},
    }
    kinds = {"4": "SaveImage", "5": "FacePrivacy_PrivacyReport", "6": "PreviewAny"}
    prompt = {key: {"class_type": kind} for key, kind in kinds.items()}
    for _ in range(2):
        saved = save_outputs(_Fetcher(), Outcome("p", prompt, outputs), tmp_path)  # type: ignore[arg-type]
    names = ["anonymized.png", "anonymized_2.png", "report.png", "report.json", "PreviewAny.txt"]
    assert [path.name for path in saved] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert (tmp_path / "anonymized_2.png").read_bytes() == b"anonymized_00002_.png"


def test_tally_adds_up_parts_and_keeps_the_first_failure(tmp_path: Path) -> None:
    tally = Tally()
    for number, (tests, failures, skipped) in enumerate([(5, 0, 1), (4, 2, 0)]):
        suite = ET.Element("testsuite", tests=str(tests), failures=str(failures), errors="0")
        suite.set("skipped", str(skipped))
        path = tmp_path / f"{number}.xml"
        ET.ElementTree(suite).write(path)
        tally.add(path, 1 if failures else 0)
    tally.add(tmp_path / "missing.xml", 4)
    assert tally.line() == "6 passed, 3 failed, 1 skipped"
    assert tally.status == 1


def test_progress_line_stays_within_its_bounds() -> None:
    assert progress_line(2.0, "x", width=4).startswith("  [####]")
    assert progress_line(-1.0, "x", width=4).startswith("  [....]")


@pytest.mark.parametrize("command", ["demo", "host"])
def test_wrong_options_are_refused_before_anything_is_set_up(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "dev.py", command, "--no-such-option"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "--no-such-option" in result.stderr
    assert result.stdout == ""
