"""A crowd in a large picture, through the whole command: memory above the loaded process, and time by the face.

The environment variable FACEPRIVACY_CROWDS sets how many faces, for example 60. What the parts take is tested
at every run, in `test_images.py`, `test_metrics.py`, `test_detect.py` and `test_duplicates.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
from PIL import Image

from tests.support.people import canvas, head

FACES = int(os.environ.get("FACEPRIVACY_CROWDS", "0"))
HEIGHT, WIDTH = 4000, 6000
COLUMNS, ROWS = 10, 6
HEAD_PX = 380
LIMIT_MB = 1000.0
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
LOADED = """
import os
from pathlib import Path
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.commands.batch import load_tools
tools = load_tools("cpu", load_face_model())
print(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""
"""Says how much a process holds that has loaded everything and done nothing."""

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(not FACES, reason="set FACEPRIVACY_CROWDS to how many faces a crowd shall have"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]


@dataclass(frozen=True)
class Run:
    """A process that has ended: its exit status, processor seconds, and megabytes at its peak."""

    status: int
    seconds: float
    megabytes: float


def run(*arguments: str) -> Run:
    """Run Python with these arguments and wait for it."""
    process = subprocess.Popen([sys.executable, *arguments], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    return Run(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def write_crowd(path: Path, count: int) -> None:
    """Write a picture of 24 megapixels with people in rows; for more than 60 they repeat in smaller cells."""
    picture, people = canvas(HEIGHT, WIDTH), [head(f"openpeople {number}") for number in range(8)]
    shrink = 1
    while COLUMNS * ROWS * shrink**2 < count:
        shrink += 1
    size = HEAD_PX // shrink
    for index in range(count):
        person = people[index % len(people)]
        x, y = (int(value) for value in person.centre)
        reach = int(min(1.1 * person.face.height, x, y, *(person.picture.shape[1::-1] - person.centre)))
        part = person.picture[y - reach : y + reach, x - reach : x + reach]
        left = index % (COLUMNS * shrink) * WIDTH // (COLUMNS * shrink) + 40 // shrink
        top = index // (COLUMNS * shrink) * HEIGHT // (ROWS * shrink) + 40 // shrink
        picture[top : top + size, left : left + size] = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
    Image.fromarray(picture).save(path, compress_level=1)


def test_a_crowd_at_24_megapixels_takes_a_gigabyte_and_time_by_the_face(tmp_path: Path):
    said = subprocess.run([sys.executable, "-c", LOADED], env=ENVIRONMENT, capture_output=True, check=True, text=True)
    loaded, runs = int(said.stdout) / 1e6, []
    for count in (FACES // 2, FACES):
        write_crowd(tmp_path / f"{count}.png", count)
        out = tmp_path / "out"
        runs.append(run("-m", "faceprivacy_core", "anonymize", str(tmp_path / f"{count}.png"), "--out", str(out)))
        assert runs[-1].status == 0, count
        assert len(json.loads((out / f"{count}.json").read_text(encoding="ascii"))["faces"]) >= count
    half, whole = runs
    assert whole.megabytes - loaded < LIMIT_MB, (loaded, half, whole)
    assert whole.seconds < 2.2 * half.seconds, (loaded, half, whole)
