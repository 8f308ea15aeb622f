"""The privacy report as one picture that explains itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from PIL import Image, ImageDraw

from ..phrases.catalogue import ENGLISH, Phrases
from ..phrases.fonts import font_of
from ..types import Face
from .fidelity import Picture
from .report import HELD_OUT, FaceResult, PrivacyReport, Quality, RecognizerResult

WIDTH = 1200
MARGIN = 36
MAX_FACES = 6
FACE_PX = 216
ROW = 52
HEADER = 122
LEGEND = 122
FOOTER = 84
MORE_ROW = 54
CROP_MARGIN = 0.25
"""Part of the longer side of the face box added on each side of the crops shown."""

Colour = tuple[int, int, int]
INK = (25, 25, 25)
GREY = (95, 95, 95)
PALE = (226, 226, 226)
PAPER = (255, 255, 255)
# Okabe and Ito's palette: told apart with every kind of colour vision; words say the same.
UNWANTED = (213, 94, 0)
UNCLEAR = (230, 159, 0)
WANTED = (0, 114, 178)

BARS_LEFT = MARGIN + 2 * FACE_PX + 48
BAR_LEFT = BARS_LEFT + 220
BAR_WIDTH = 230
VERDICT_LEFT = BAR_LEFT + BAR_WIDTH + 14
QUALITY_LEFT = MARGIN + 190


class Wish(str, Enum):
    """What recognisers shall make of the changed faces; it says which answers are good ones."""

    UNKNOWN = "not be recognised"
    """Anonymised, cloaked or encrypted faces."""
    KNOWN = "be recognised"
    """Faces whose looks alone are hidden, and such as were brought back."""


INTRODUCTIONS = {
    Wish.UNKNOWN: "Face recognisers compared each face before and after. Longer bar: more alike.",
    Wish.KNOWN: "Recognisers are meant to know these faces: blue is good here. Longer bar: more alike.",
}


def draw_report(
    report: PrivacyReport, original: Picture, protected: Picture, wish: Wish = Wish.UNKNOWN, phrases: Phrases = ENGLISH
) -> Picture:
    """Draw a report: the first six faces, before and after, with a bar for each recogniser.

    Args:
        report: What to draw.
        original: (H, W, 3) uint8 RGB, the picture before. Not modified.
        protected: (H, W, 3) uint8 RGB, the picture after. Not modified.
        wish: What recognisers shall make of the faces; colours and the second line follow.
        phrases: The language it is written in; names and numbers are the same in all.

    Returns:
        (height, 1200, 3) uint8 RGB; the height grows with faces and recognisers.
    """
    shown, hidden = report.faces[:MAX_FACES], len(report.faces) - MAX_FACES
    bottom = HEADER + sum(map(_face_height, shown)) + (MORE_ROW if hidden > 0 else 0)
    canvas = Image.new("RGB", (WIDTH, bottom + LEGEND + FOOTER), PAPER)
    pen = _Pen(ImageDraw.Draw(canvas), phrases)
    pen.text((MARGIN, 28), summarize(report, phrases), 28)
    pen.text((MARGIN, 76), phrases(INTRODUCTIONS[wish]), 19, GREY)
    top = HEADER
    for face in shown:
        pen.rule(top)
        _draw_face(canvas, pen, top + 20, face, original, protected, wish)
        top += _face_height(face)
    if hidden > 0:
        pen.rule(top)
        rest = phrases("and {hidden} more; the first line counts all {total} faces", hidden=hidden, total=len(report.faces))
        pen.text((MARGIN, top + 16), rest, 19)
    _draw_legend(pen, bottom)
    _draw_quality(pen, bottom + LEGEND, report)
    return np.asarray(canvas)


def summarize(report: PrivacyReport, phrases: Phrases = ENGLISH) -> str:
    """Say in a sentence or two whether people are still recognised; possible recognition counts.

    The recognisers that were held out judge; if there are none the others do, and it is said.
    """
    unknown = []
    if report.not_compared:
        text = "{count} painted by hand could not be compared: no detector finds eyes and mouth there."
        unknown.append(phrases(text, count=report.not_compared))
    if not report.faces:
        nobody = phrases("No face was found or chosen here, so nobody was compared. Look whether that is so.")
        return unknown[0] if unknown else nobody
    return " ".join([*_summarize_compared(report, phrases), *unknown])


def _summarize_compared(report: PrivacyReport, phrases: Phrases) -> list[str]:
    held_out = [[item for item in face.recognizers if item.role == HELD_OUT] for face in report.faces]
    if not all(held_out):
        everyone = [face.recognizers for face in report.faces]
        return [_sentence(everyone, "recogniser", phrases), phrases("No independent one was asked.")]
    text = _sentence(held_out, "independent recogniser", phrases)
    seen = [[item for item in face.recognizers if item.role != HELD_OUT] for face in report.faces]
    missed = (not _is_any(judges, 0.01) and _is_any(used, 0.01) for judges, used in zip(held_out, seen, strict=True))
    return [text, phrases("A recogniser that the method used still finds someone.")] if any(missed) else [text]


def _sentence(results: Sequence[Sequence[RecognizerResult]], judge: str, phrases: Phrases) -> str:
    surely, perhaps = (sum(_is_any(items, fmr) for items in results) for fmr in (0.001, 0.01))
    total = len(results)
    verb = "are" if perhaps > 1 else "is"
    people = (
        "The person is" if total == 1 else f"{{known}} of {{total}} people {verb}" if perhaps else "None of {total} people is"
    )
    if not perhaps:
        return phrases(f"{people} {'not ' if total == 1 else ''}recognised by any {judge}.", total=total)
    word = "still" if surely == perhaps else "possibly still" if not surely else "still or possibly"
    text = f"{people} {word} recognised by {'an' if judge[0] in 'aeiou' else 'a'} {judge}."
    return phrases(text, known=perhaps, total=total)


def _is_any(results: Sequence[RecognizerResult], fmr: float) -> bool:
    return any(item.is_verified(fmr) for item in results)


def _face_height(face: FaceResult) -> int:
    return max(FACE_PX + 72, ROW * len(face.recognizers) + 84)


def _draw_face(
    canvas: Image.Image,
    pen: _Pen,
    top: int,
    result: FaceResult,
    original: Picture,
    protected: Picture,
    wish: Wish,
) -> None:
    after = "After" if result.detected_after else "After (no face found)"
    for column, (caption, picture) in enumerate((("Before", original), (after, protected))):
        left = MARGIN + column * (FACE_PX + 16)
        canvas.paste(_cut(picture, result.face), (left, top))
        pen.text((left, top + FACE_PX + 8), pen.phrases(caption), 19, GREY, FACE_PX)
    pen.text((BARS_LEFT, top - 2), _count_text(result, pen.phrases), 22)
    for row, recognizer in enumerate(result.recognizers):
        _draw_bar(pen, top + 48 + row * ROW, recognizer, wish)


def _count_text(face: FaceResult, phrases: Phrases) -> str:
    count = sum(item.is_verified(0.001) for item in face.recognizers)
    possible = sum(item.is_verified(0.01) for item in face.recognizers) - count
    text = "Face {index}: recognised by {count} of {total}" + (", possibly by {possible} more" if possible else "")
    return phrases(text, index=face.index, count=count, total=len(face.recognizers), possible=possible)


def _draw_bar(pen: _Pen, y: int, result: RecognizerResult, wish: Wish) -> None:
    text, colour = _verdict(result, wish)
    role = "held out" if result.role == HELD_OUT else "seen by the method"
    pen.text((BARS_LEFT, y - 3), result.name, 19, width=BAR_LEFT - BARS_LEFT - 10)
    pen.text((BARS_LEFT, y + 19), pen.phrases(role), 16, GREY, BAR_LEFT - BARS_LEFT - 10)
    pen.draw.rectangle((BAR_LEFT, y, BAR_LEFT + BAR_WIDTH, y + 28), fill=PALE)
    length = round(max(result.similarity, 0.0) * BAR_WIDTH)
    if length > 0:
        pen.draw.rectangle((BAR_LEFT, y, BAR_LEFT + length, y + 28), fill=colour)
    _lenient_mark(pen, BAR_LEFT + round(result.thresholds[0.01] * BAR_WIDTH), y - 4, y + 32)
    _strict_mark(pen, BAR_LEFT + round(result.thresholds[0.001] * BAR_WIDTH), y - 4, y + 32)
    pen.text((VERDICT_LEFT, y - 3), pen.phrases(text), 19)
    said = "similarity {value:.2f}" + ("" if result.other is None else "; to the other photo {after:.2f} (before {before:.2f})")
    other = {} if result.other is None else {"after": result.other.after, "before": result.other.before}
    pen.text((VERDICT_LEFT, y + 19), pen.phrases(said, value=result.similarity, **other), 16, GREY)


def _verdict(result: RecognizerResult, wish: Wish) -> tuple[str, Colour]:
    known, unknown = (WANTED, UNWANTED) if wish is Wish.KNOWN else (UNWANTED, WANTED)
    if result.is_verified(0.001):
        return "recognised", known
    if result.is_verified(0.01):
        return "possibly recognised", UNCLEAR
    return "not recognised", unknown


def _lenient_mark(pen: _Pen, x: int, top: int, bottom: int) -> None:
    for start in range(top, bottom, 8):
        pen.draw.line((x, start, x, min(start + 4, bottom)), fill=INK, width=2)


def _strict_mark(pen: _Pen, x: int, top: int, bottom: int) -> None:
    pen.draw.line((x, top, x, bottom), fill=INK, width=4)


def _draw_legend(pen: _Pen, top: int) -> None:
    pen.rule(top)
    lines = (
        "A bar that reaches this mark: recognised. Of two strangers, 1 pair in 1000 gets this far.",
        "A bar that reaches this mark: possibly recognised. Of two strangers, 1 pair in 100 gets this far.",
        "held out: the method did not know this recogniser, so these count.   seen: the method worked against it.",
    )
    for row, (text, indent) in enumerate(zip(lines, (22, 22, 0), strict=True)):
        pen.text((MARGIN + indent, top + 16 + 32 * row), pen.phrases(text), 18)
    _strict_mark(pen, MARGIN + 6, top + 16, top + 40)
    _lenient_mark(pen, MARGIN + 6, top + 48, top + 72)


def _draw_quality(pen: _Pen, top: int, report: PrivacyReport) -> None:
    pen.rule(top)
    where = "Inside the mask" if report.is_mask_given else "Where it changed"
    pen.text((MARGIN, top + 14), pen.phrases(where), 18, width=QUALITY_LEFT - MARGIN - 10)
    pen.text((QUALITY_LEFT, top + 14), _quality_text(report.inside, pen.phrases), 18, GREY)
    pen.text((MARGIN, top + 44), pen.phrases("Outside"), 18, width=QUALITY_LEFT - MARGIN - 10)
    unknown = pen.phrases("not judged, no mask was given")
    outside = _quality_text(report.outside, pen.phrases) if report.is_mask_given else unknown
    pen.text((QUALITY_LEFT, top + 44), outside, 18, GREY)


def _quality_text(quality: Quality, phrases: Phrases) -> str:
    if quality.psnr_db is None:
        return phrases("there are no such pixels")
    if math.isinf(quality.psnr_db):
        return phrases("unchanged, pixel for pixel")
    parts = [f"PSNR {quality.psnr_db:.1f} dB", f"SSIM {quality.ssim:.3f}"]
    parts += [] if quality.lpips is None else [f"LPIPS {quality.lpips:.3f}"]
    return "    ".join([*parts, phrases("largest change {value} of 255", value=quality.max_abs_difference)])


def _cut(picture: Picture, face: Face) -> Image.Image:
    """Cut the square around a face, edge pixels repeated where it leaves the picture."""
    left, top, right, bottom = face.bbox_xyxy
    half = max(1.0, (0.5 + CROP_MARGIN) * max(face.width, face.height))
    x, y = (left + right) / 2, (top + bottom) / 2
    height, width = picture.shape[:2]
    columns = np.clip(np.arange(round(x - half), round(x + half)), 0, width - 1)
    rows = np.clip(np.arange(round(y - half), round(y + half)), 0, height - 1)
    square = Image.fromarray(picture[np.ix_(rows, columns)])
    return square.resize((FACE_PX, FACE_PX), Image.Resampling.LANCZOS)


@dataclass(frozen=True, eq=False)
class _Pen:
    """Writes on the report's picture in one language."""

    draw: ImageDraw.ImageDraw
    phrases: Phrases

    def text(
        self, position: tuple[int, int], text: str, size: float, colour: Colour = INK, width: int | None = None
    ) -> None:  # fmt: skip
        """Write a line, smaller when it is wider than allowed; the margin on the right ends every one."""
        width = WIDTH - MARGIN - position[0] if width is None else width
        font = font_of(self.phrases, size)
        length = font.getlength(text)
        if length > width:
            size = max(8.0, size * width / length)
            font = font_of(self.phrases, size)
        baseline = position[1] + font_of(ENGLISH, size).getmetrics()[0]  # letters of every font stand on the same line
        self.draw.text((position[0], baseline), text, font=font, fill=colour, anchor="ls")

    def rule(self, y: int) -> None:
        """Draw a line across the picture."""
        self.draw.line((MARGIN, y, WIDTH - MARGIN, y), fill=PALE, width=2)
