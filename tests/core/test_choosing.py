"""The command line chooses faces as the nodes do, and says what becomes of a picture without one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.commands import COMMANDS, choosing, main
from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.faces.detect import MIN_CONFIDENCE
from faceprivacy_core.no_face import NoFacePolicy, blur_whole

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
TWO, ONE = SAMPLES / "two_people.jpg", SAMPLES / "portrait.jpg"
PERSON = "somebody.fpperson"
CHOICES = {"--largest", "--index", "--only", "--except", "--confidence", "--on-no-face"}


def chosen(out: Path, *options: str) -> np.ndarray:
    """Say which halves of the sample photo hold a numbered face after a dry run."""
    assert main(["anonymize", str(TWO), "--out", str(out), "--dry-run", *options]) == 0
    with Image.open(TWO) as before, Image.open(out / "two_people.faces.png") as after:
        changed = np.abs(np.asarray(before.convert("RGB"), int) - np.asarray(after.convert("RGB"), int)).max(axis=(0, 2)) > 0
    return np.array([changed[:512].any(), changed[512:].any()])


def test_every_command_that_looks_for_faces_chooses_among_them_in_the_same_words():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.add_parser(commands)
    offered = {name: CHOICES & set(sub._option_string_actions) for name, sub in commands.choices.items()}
    assert {name for name, options in offered.items() if options == CHOICES} == {
        "anonymize",
        "anonymise",
        "cloak",
        "hide",
        "encrypt",
    }
    assert not any(options for options in offered.values() if options != CHOICES)


def test_defaults_are_those_of_the_nodes():
    assert choosing.CONFIDENCE == MIN_CONFIDENCE
    assert tuple(policy.value for policy in NoFacePolicy) == choosing.NO_FACE


@pytest.mark.weights
@pytest.mark.parametrize(
    ("options", "left", "right"),
    [
        (["--index", "1"], False, True),
        (["--only", str(ONE)], False, True),
        (["--except", PERSON], True, False),
    ],
)
def test_faces_are_chosen_by_number_by_photo_and_by_saved_person(options: list[str], left: bool, right: bool, tmp_path: Path):
    """What is saved of the photo means the same person as the photo."""
    if PERSON in options:
        person = tmp_path / PERSON
        assert main(["person", str(ONE), "--out", str(person)]) == 0
        assert main(["person", str(ONE), "--out", str(person)]) == 1  # what is there stays
        options = [options[0], str(person)]
    assert chosen(tmp_path / "out", *options).tolist() == [left, right]


@pytest.mark.weights
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "7"], "Expected face numbers below 2"),
        (["--confidence", "2"], "confidence between 0 and 1"),
        (["--only", "gone.jpg"], "gone.jpg"),
        (["--only", "gone.fpperson"], "a saved person at gone.fpperson"),
    ],
)
def test_a_choice_that_cannot_be_made_is_an_error(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["anonymize", str(TWO), "--out", str(tmp_path / "out"), "--dry-run", *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.weights
@pytest.mark.parametrize("option", ["--except", "person"])
def test_a_photo_without_a_face_is_named_and_nothing_is_begun(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Once, not for every picture of the run."""
    wall = tmp_path / "wall.png"
    Image.new("RGB", (300, 200), (90, 120, 150)).save(wall)
    protecting = ["anonymize", str(TWO), str(ONE), "--out", str(tmp_path / "out"), "--dry-run", option, str(ONE), str(wall)]
    saving = ["person", str(ONE), str(wall), "--out", str(tmp_path / "out" / PERSON)]
    assert main(saving if option == "person" else protecting) == 1
    assert capsys.readouterr().err.count(f"Expected a face in {wall}, found none.") == 1
    assert not (tmp_path / "out").exists()


def test_two_choices_at_once_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["cloak", str(TWO), "--out", "out", "--largest", "--index", "0"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("largest", True), ("index", [1])])
def test_people_of_a_clip_are_not_chosen_by_what_one_frame_shows(option: str, value: object):
    given = {"largest": False, "index": None} | {option: value}
    with pytest.raises(InputError, match=f"got --{option}"):
        choosing.refuse_for_clips(argparse.Namespace(**given))


def test_without_a_face_the_policy_decides():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = 255
    with pytest.raises(NoFaceError, match="--on-no-face blur or pass"):
        choosing.without_face(picture, "error")
    assert choosing.without_face(picture, "pass") is picture
    blurred = choosing.without_face(picture, "blur")
    assert np.array_equal(blurred, blur_whole(picture))
    assert 0 < blurred[20, 30, 0] < 255


@pytest.mark.weights
def test_a_photo_without_a_face_is_written_as_the_policy_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / "keys"))
    edge = np.zeros((96, 128, 3), np.uint8)
    edge[:, 64:] = 200
    Image.fromarray(edge).save(tmp_path / "edge.png")
    source = str(tmp_path / "edge.png")
    main(["key", "new", "mine", "--decrypt-in-server", "no"])
    encrypt = ["encrypt", source, "--key", "mine"]
    for policy, command in {"blur": ["anonymize", source, "--method", "solid", "--language", "fr"], "pass": encrypt}.items():
        assert main([*command, "--out", str(tmp_path / policy), "--on-no-face", policy]) == 0
    with Image.open(tmp_path / "blur" / "edge.png") as blurred, Image.open(tmp_path / "pass" / "edge.png") as passed:
        assert np.array_equal(np.asarray(blurred), blur_whole(edge))
        assert np.array_equal(np.asarray(passed), edge)
    report = json.loads((tmp_path / "blur" / "edge.json").read_text(encoding="utf-8"))
    assert report["faces"] == []
    assert "0 visage, tout est flouté" in capsys.readouterr().out
