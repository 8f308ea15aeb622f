"""`faceprivacy anonymize CLIP`: two people walk past each other through a cut, with the real models and the real codec.

With FACEPRIVACY_CLIPS set the clip gets new faces, which takes minutes, and their looks are measured; otherwise a mosaic.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faceprivacy_core.clips import report
from faceprivacy_core.commands import main
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, load_ensemble
from faceprivacy_core.metrics.similarity import cut_window
from faceprivacy_core.types import Face
from tests.support.clips import Scene, background, walk
from tests.support.flicker import flicker
from tests.support.video import Held, read_clip, write_clip

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
WITH_NEW_FACES = "FACEPRIVACY_CLIPS" in os.environ
HOW = ["--candidates", "1"] if WITH_NEW_FACES else ["--method", "mosaic"]
SHOWN, CUT, WIDTH, HEIGHT = (*range(15, 22), *range(30, 36)), 7, 384, 216
"""Of sixty frames those in which one comes out from behind the other, and some after the cut."""
FRAMES = len(SHOWN)

pytestmark = pytest.mark.weights
new_faces = pytest.mark.skipif(not WITH_NEW_FACES, reason="set FACEPRIVACY_CLIPS to draw new faces into a clip")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    every = list(walk(60, width=WIDTH, height=HEIGHT))
    return [every[index] for index in SHOWN]


@pytest.fixture(scope="module")
def source(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    return write_clip(
        folder / "walk.mov", [scene.picture for scene in scenes], sound=True, pixel="yuv420p", metadata={"title": "Alice"}
    )


@pytest.fixture(scope="module")
def outcome(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(["anonymize", str(source), "--out", str(out), "--seed", "1", *HOW]) == 0
    return out


@pytest.fixture(scope="module")
def clips(source: Path, outcome: Path) -> tuple[Held, Held]:
    """Return what is seen before and after, as it was encoded."""
    return read_clip(source), read_clip(outcome / "walk.mp4")


def visible(scenes: list[Scene]) -> list[tuple[int, int, Face]]:
    """Return frame, person and face wherever a whole face can be seen: the first person is behind the second at first."""
    return [
        (index, person, scene.faces[person])
        for index, scene in enumerate(scenes)
        for person in scene.people
        if person == 1 or scene.faces[0].bbox_xyxy[0] > scene.faces[1].bbox_xyxy[2] + 4
    ]


def test_clip_report_and_sheet_are_written_and_nothing_else(outcome: Path, clips: tuple[Held, Held]):
    assert sorted(path.name for path in outcome.iterdir()) == ["walk.frames.jpg", "walk.json", "walk.mp4"]
    before, after = clips
    assert (after.times, after.lengths, after.sound) == (before.times, before.lengths, before.sound)
    assert len(after.pictures) == FRAMES
    assert "Alice" in before.said.values()
    assert "Alice" not in after.said.values()
    with Image.open(outcome / "walk.frames.jpg") as sheet:
        assert sheet.width == report.COLUMNS * report.TILE[0]


def test_the_report_says_who_was_seen_when_and_the_worst_frame_first(outcome: Path):
    said = json.loads((outcome / "walk.json").read_text(encoding="ascii"))
    assert said["clip"] == {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "seconds": round(0.1 * (FRAMES - 1), 1)}
    assert [person["person"] for person in said["people"]] == [0, 1]
    assert said["scenes_begin_s"] == [0.0, 0.7]
    assert said["frames_without_a_face"] == 0
    assert sum(person["frames_seen"] for person in said["people"]) >= 2 * FRAMES - 6
    assert all(sum(person["methods"].values()) >= FRAMES - 4 for person in said["people"])
    margins = [
        max(one["similarity"] for face in frame["faces"] for one in face["recognizers"] if one["role"] == "held out")
        for frame in said["worst_first"]
    ]
    assert len(margins) == said["measured"]["frames"] >= 2


@new_faces
def test_no_recogniser_knows_anybody_in_any_frame_and_everybody_has_one_new_face(
    scenes: list[Scene], clips: tuple[Held, Held]
):  # fmt: skip
    views = {(which, person): [] for which in ("own", "new") for person in (0, 1)}
    for index, person, face in visible(scenes):
        for which, clip in zip(("own", "new"), clips, strict=True):
            views[which, person].append(cut_window(clip.pictures[index], face.landmarks5))
    alike = {key: [] for key in views}
    for one in load_ensemble(DEFAULT_HELD_OUT):
        with torch.no_grad():
            vectors = {
                key: torch.cat([one.embed(view.images, view.landmarks5.float()) for view in some])
                for key, some in views.items()
            }
        for person in (0, 1):
            known = (vectors["own", person] * vectors["new", person]).sum(1).max()
            assert known < one.thresholds[0.001], f"{one.name} knows person {person}: {known:.2f}"
        for key, rows in vectors.items():
            alike[key].append(float((rows @ rows.T).mean()))
    # The first person is half covered by the second in most of these frames, and new light falls on what is drawn there.
    for person, least in ((0, 0.8), (1, 0.9)):
        assert np.mean(alike["new", person]) > least * np.mean(alike["own", person]), alike


@new_faces
def test_new_faces_flicker_little_more_than_the_old_ones(scenes: list[Scene], clips: tuple[Held, Held]):
    pairs = [(index, index + 1) for index in range(FRAMES - 1) if index + 1 != CUT]
    changes = [
        np.median([flicker(clip.pictures[a], clip.pictures[b], scenes[a].faces[1], scenes[b].faces[1]) for a, b in pairs])
        for clip in clips
    ]
    # The middle one of all pairs; over half a second there is little to smooth places over, so this is more than over a clip.
    assert changes[1] < 1.8 * changes[0], changes


Refused = Callable[..., tuple[int, str, Path]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    def run_command(*words: object, command: str = "anonymize") -> tuple[int, str, Path]:
        out = tmp_path / "out"
        status = main([command, *map(str, words), "--out", str(out)])
        return status, capsys.readouterr().err, out

    return run_command


@pytest.fixture(scope="module")
def short(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("short") / "short.mp4", [scene.picture for scene in scenes[-3:]], sound=True)


def test_a_photo_spares_everybody_else(short: Path, scenes: list[Scene], run: Refused):
    status, _, out = run(short, "--method", "solid", "--only-people", SAMPLES / "portrait.jpg", "--no-audio", "--codec", "ffv1")
    assert status == 0
    before, after = read_clip(short), read_clip(out / "short.mkv")
    assert after.sound == []
    moved = [
        float(np.abs(after.pictures[0].astype(int) - before.pictures[0])[_box(face)].mean()) for face in scenes[-3].faces
    ]  # fmt: skip
    assert min(moved) < 2 < 10 < max(moved)


def _box(face: Face) -> tuple[slice, slice]:
    left, top, right, bottom = (round(value) for value in face.bbox_xyxy)
    return slice(top, bottom), slice(left, right)


def test_results_that_are_there_are_kept_and_so_is_the_original(short: Path, tmp_path: Path, run: Refused):
    quick = ("--method", "blur", "--end", "0.1")
    assert run(short, *quick)[0] == 0
    status, said, _ = run(short, *quick)
    assert status == 1
    assert "is there already" in said
    assert run(short, *quick, "--force")[0] == 0
    copied = tmp_path / "out" / "mine.mp4"
    copied.write_bytes(short.read_bytes())
    status, said, _ = run(copied, *quick, "--force")
    assert status == 1
    assert "would be overwritten" in said
    assert copied.read_bytes() == short.read_bytes()


def test_a_run_that_is_stopped_leaves_nothing(short: Path, run: Refused, monkeypatch: pytest.MonkeyPatch):
    def stop(self: report.ClipReport, index: int, *_: object) -> None:
        if index == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(report.ClipReport, "watch", stop)
    status, _, out = run(short, "--method", "blur")
    assert status == 130
    assert list(out.iterdir()) == []


def test_clips_without_a_face_and_what_is_no_clip_are_not_written(tmp_path: Path, run: Refused):
    nobody = write_clip(tmp_path / "nobody.mp4", [background(160, 90, 1)] * 2)
    (tmp_path / "letter.mp4").write_text("no clip", encoding="ascii")
    status, said, out = run(nobody, tmp_path / "letter.mp4", "--method", "blur")
    assert status == 1
    assert "found none in 2 frames" in said
    assert "letter.mp4 is none that can be read" in said
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("command", ["cloak", "hide"])
def test_commands_that_make_no_clips_say_so(short: Path, run: Refused, command: str):
    status, said, out = run(short, command=command)
    assert status == 1
    assert "of clips only `faceprivacy anonymize`" in said
    assert list(out.iterdir()) == []


def test_clips_of_a_folder_are_passed_over_by_name(short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (64, 64)).save(short.parent / "empty.png")
    main(["anonymize", str(short.parent), "--out", str(tmp_path / "out"), "--dry-run"])
    assert "passed over, a clip; name it itself" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--end", "-1"], "an end after the start"),
        (["--quality", "99"], "quality from 0"),
        (["--max-gap", "100"], "a gap of 0 to 60"),
        (["--start", "9"], "has none there"),
        (["--only-people", "gone.jpg"], "no such file"),
        (["--look", "person"], "--look donor"),
    ],
)
def test_what_cannot_be_done_is_refused(short: Path, run: Refused, words: list[str], message: str):
    status, said, out = run(short, *words)
    assert status == 1
    assert message in said
    assert not out.exists() or list(out.iterdir()) == []
