"""Reports in other languages: every phrase is there, with its values and its letters; names and numbers stay as they are."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from faceprivacy_core.clips.dressing import Dressed
from faceprivacy_core.clips.protect import Found
from faceprivacy_core.clips.report import ClipReport
from faceprivacy_core.commands.batch import summary_line
from faceprivacy_core.commands.choosing import NO_FACE_SAID
from faceprivacy_core.commands.report import describe_face, describe_other
from faceprivacy_core.errors import InputError
from faceprivacy_core.metrics.draw import BAR_LEFT, BAR_WIDTH, HEADER, Wish, draw_report, summarize
from faceprivacy_core.metrics.report import FaceResult, OtherPhoto, PrivacyReport, Quality, RecognizerResult
from faceprivacy_core.phrases.catalogue import ENGLISH, FOLDER, LANGUAGES, Phrases, load_phrases
from faceprivacy_core.phrases.fonts import font_of
from faceprivacy_core.tracks.follow import Followed
from faceprivacy_core.types import Faces
from faceprivacy_core.video.reading import ClipInfo
from tests.support.faces import synthetic_face
from tests.support.recognizer import ProjectionRecognizer

OTHERS = LANGUAGES[1:]
PICTURE = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
VALUES = (0.1, 0.35, 0.9)
"""Similarities: not recognised, possibly recognised, recognised."""
ROLES = (("held out", "seen"), ("seen", "seen"))


class Asked(dict[str, str]):
    """Texts that remember which were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: str) -> str:  # type: ignore[override]
        self.asked.add(key)
        return default


def face_of(index: int, values: tuple[float, ...], roles: tuple[str, ...], *, full: bool) -> FaceResult:
    results = tuple(
        RecognizerResult(f"r{k}", "f", role, "MIT", value, {0.01: 0.3, 0.001: 0.4}, OtherPhoto(0.8, 0.1) if full else None)
        for k, (value, role) in enumerate(zip(values, roles, strict=True))
    )
    return FaceResult(index, synthetic_face(100, 90, 60), full, results)


def report_of(*faces: FaceResult, full: bool = True, not_compared: int = 0) -> PrivacyReport:
    quality = Quality(30.1 if full else float("inf"), 0.9, 0.1, 3)
    return PrivacyReport(200, 300, faces, quality, quality if full else Quality(), full, 1.0, not_compared)


def reports() -> Iterator[PrivacyReport]:
    """Give a report of every kind: one, two and many people, everything that recognisers can say of them."""
    for roles, full in itertools.product(ROLES, (True, False)):
        for first, second in itertools.product(VALUES, repeat=2):
            alone, other = (face_of(index, (value, 0.9), roles, full=full) for index, value in enumerate((first, second)))
            yield report_of(replace(alone, recognizers=alone.recognizers[:1]), full=full)
            for faces in ((alone,), (alone, other), (alone, other) * 4):
                kept = tuple(replace(face, recognizers=face.recognizers[:1]) for face in faces)
                yield report_of(*faces, full=full, not_compared=1)
                yield report_of(*kept, full=full)
    yield report_of()
    yield report_of(full=False)
    yield report_of(not_compared=2)


def clip_report(is_known: bool, away: bool) -> ClipReport:
    face = replace(synthetic_face(100, 90, 60), track=0)
    info = ClipInfo(300, 200, 0, Fraction(1, 25), Fraction(25), 2, 0.08, Fraction(1), True, False, False)
    followed = Followed(Faces((face,), 2, 200, 300), 1, (0,), (0,))
    found = Found(info, followed, frozenset({0}), (0.0, 0.04), {}, {})
    after = PICTURE if is_known else 255 - PICTURE
    report = ClipReport(found, [ProjectionRecognizer()], set(), every=1)
    report.watch(0, PICTURE, Dressed(after, np.zeros((200, 300), np.float32), ("blur",)), [face])
    if away:
        report.watch(1, PICTURE, Dressed(after, np.zeros((200, 300), np.float32), ()), [])
    return report


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """Every phrase that is said of faces, in pictures and on the command line."""
    texts = Asked()
    phrases = Phrases("de", texts, load_phrases("de").font)
    for report in reports():
        summarize(report, phrases)
        for face in report.faces:
            describe_face(face, phrases)
            if face.recognizers[0].other is not None:
                describe_other(face, phrases)
    for full, value in itertools.product((True, False), VALUES):
        draw_report(report_of(face_of(0, (value, 0.35), ROLES[0], full=full), full=full), PICTURE, PICTURE, phrases=phrases)
    many = [face_of(0, (0.9,), ROLES[0][:1], full=True)] * 7
    draw_report(replace(report_of(*many), outside=Quality()), PICTURE, PICTURE, Wish.KNOWN, phrases)
    for is_known, away in ((True, True), (False, False)):
        report = clip_report(is_known, away)
        report.sheet(phrases)
        report.summary(phrases)
    for faces in ([], [{"recognizers": []}]):
        summary_line({"faces": faces, "seconds": 1.0}, phrases)
    for said in NO_FACE_SAID.values():
        phrases(f"0 faces, {said}")
    phrases("Written: {files}", files="")
    return texts.asked


def fields(text: str) -> set[tuple[str, str]]:
    return {(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_every_phrase_that_is_said_is_translated_and_nothing_else(asked: set[str], language: str):
    assert set(load_phrases(language).texts) == asked
    assert len(asked) > 50


@pytest.mark.parametrize("language", OTHERS)
def test_every_translation_has_the_values_of_the_english_phrase_and_is_another_text(language: str):
    for english, text in load_phrases(language).texts.items():
        assert fields(text) <= fields(english), english
        lost = {name for name, _ in fields(english) - fields(text)}
        assert not lost, english
        assert text.strip(), english
        assert text != english


@pytest.mark.parametrize("language", OTHERS)
def test_every_letter_is_in_the_font_of_its_language(language: str):
    """Where this fails, the font is to be made anew: see CONTRIBUTING.md."""
    phrases = load_phrases(language)
    font = font_of(phrases, 20)
    box = bytes(font.getmask("\uffff"))
    letters = set("".join(phrases.texts.values())) | set(string.ascii_letters + string.digits + string.punctuation)
    assert sorted(letter for letter in letters if not letter.isspace() and bytes(font.getmask(letter)) == box) == []


@pytest.mark.parametrize("language", OTHERS)
def test_only_the_words_are_others(language: str):
    """Bars, marks and pictures of faces are the same to the bit, and so is the size."""
    report = report_of(face_of(0, (0.35, 0.9), ROLES[0], full=True))
    english, other = (draw_report(report, PICTURE, PICTURE, phrases=one) for one in (ENGLISH, load_phrases(language)))
    assert english.shape == other.shape
    bars = slice(HEADER + 60, HEADER + 160), slice(BAR_LEFT, BAR_LEFT + BAR_WIDTH)
    faces = slice(HEADER + 20, HEADER + 230), slice(36, 250)
    assert np.array_equal(english[bars], other[bars])
    assert np.array_equal(english[faces], other[faces])
    assert not np.array_equal(english[:HEADER], other[:HEADER])
    assert "0.35" in load_phrases(language)("similarity {value:.2f}", value=0.35)


def test_english_needs_no_file_and_a_phrase_without_translation_stays_english():
    assert load_phrases("en") is ENGLISH
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(OTHERS)
    assert Phrases("de", {"a {x}": "ein {x}"})("a {x}", x=1) == "ein 1"
    assert Phrases("de", {})("a {x}", x=1) == "a 1"


def test_another_language_is_refused_by_name():
    with pytest.raises(InputError, match="among en, de, fr, es, ja, zh, got 'xx'"):
        load_phrases("xx")
