"""The privacy report as one picture that explains itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def draw_report(report: PrivacyReport, original: Picture, protected: Picture, wish: Wish = Wish.UNKNOWN) -> Picture:
    """Draw a report: the first six faces, before and after, with a bar for each recogniser.

    Args:
        report: What to draw.
        original: (H, W, 3) uint8 RGB, the picture before. Not modified.
        protected: (H, W, 3) uint8 RGB, the picture after. Not modified.
        wish: What recognisers shall make of the faces; colours and the second line follow.

    Returns:
        (height, 1200, 3) uint8 RGB; the height grows with faces and recognisers.
    """
    shown, hidden = report.faces[:MAX_FACES], len(report.faces) - MAX_FACES
    bottom = HEADER + sum(map(_face_height, shown)) + (MORE_ROW if hidden > 0 else 0)
    canvas = Image.new("RGB", (WIDTH, bottom + LEGEND + FOOTER), PAPER)
    draw = ImageDraw.Draw(canvas)
    _text(draw, (MARGIN, 28), summarize(report), 28, width=WIDTH - 2 * MARGIN)
    _text(draw, (MARGIN, 76), INTRODUCTIONS[wish], 19, GREY)
    top = HEADER
    for face in shown:
        _rule(draw, top)
        _draw_face(canvas, draw, top + 20, face, original, protected, wish)
        top += _face_height(face)
    if hidden > 0:
        _rule(draw, top)
        _text(draw, (MARGIN, top + 16), f"and {hidden} more; the first line counts all {len(report.faces)} faces", 19)
    _draw_legend(draw, bottom)
    _draw_quality(draw, bottom + LEGEND, report)
    return np.asarray(canvas)


def summarize(report: PrivacyReport) -> str:
    """Say in a sentence or two whether people are still recognised; possible recognition counts.

    The recognisers that were held out judge; if there are none the others do, and it is said.
    """
    unknown = ""
    if report.not_compared:
        unknown = f"{report.not_compared} painted by hand could not be compared: no detector finds eyes and mouth there."
    if not report.faces:
        return unknown or "No face was found or chosen here, so nobody was compared. Look whether that is so."
    return f"{_summarize_compared(report)} {unknown}".rstrip()


def _summarize_compared(report: PrivacyReport) -> str:
    held_out = [[item for item in face.recognizers if item.role == HELD_OUT] for face in report.faces]
    if not all(held_out):
        everyone = [face.recognizers for face in report.faces]
        return f"{_sentence(everyone, 'recogniser')} No independent one was asked."
    text = _sentence(held_out, "independent recogniser")
    seen = [[item for item in face.recognizers if item.role != HELD_OUT] for face in report.faces]
    missed = (not _is_any(judges, 0.01) and _is_any(used, 0.01) for judges, used in zip(held_out, seen, strict=True))
    return f"{text} A recogniser that the method used still finds someone." if any(missed) else text


def _sentence(results: Sequence[Sequence[RecognizerResult]], judge: str) -> str:
    surely, perhaps = (sum(_is_any(items, fmr) for items in results) for fmr in (0.001, 0.01))
    total = len(results)
    verb = "are" if perhaps > 1 else "is"
    people = "The person is" if total == 1 else f"{perhaps or 'None'} of {total} people {verb}"
    if not perhaps:
        return f"{people} {'not ' if total == 1 else ''}recognised by any {judge}."
    word = "still" if surely == perhaps else "possibly still" if not surely else "still or possibly"
    return f"{people} {word} recognised by {'an' if judge[0] in 'aeiou' else 'a'} {judge}."


def _is_any(results: Sequence[RecognizerResult], fmr: float) -> bool:
    return any(item.is_verified(fmr) for item in results)


def _face_height(face: FaceResult) -> int:
    return max(FACE_PX + 72, ROW * len(face.recognizers) + 84)


def _draw_face(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
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
        _text(draw, (left, top + FACE_PX + 8), caption, 19, GREY)
    _text(draw, (BARS_LEFT, top - 2), f"Face {result.index}: {_count_text(result.recognizers)}", 22)
    for row, recognizer in enumerate(result.recognizers):
        _draw_bar(draw, top + 48 + row * ROW, recognizer, wish)


def _count_text(results: Sequence[RecognizerResult]) -> str:
    count = sum(item.is_verified(0.001) for item in results)
    possible = sum(item.is_verified(0.01) for item in results) - count
    return f"recognised by {count} of {len(results)}" + (f", possibly by {possible} more" if possible else "")


def _draw_bar(draw: ImageDraw.ImageDraw, y: int, result: RecognizerResult, wish: Wish) -> None:
    text, colour = _verdict(result, wish)
    role = "held out" if result.role == HELD_OUT else "seen by the method"
    _text(draw, (BARS_LEFT, y - 3), result.name, 19, width=BAR_LEFT - BARS_LEFT - 10)
    _text(draw, (BARS_LEFT, y + 19), role, 16, GREY)
    draw.rectangle((BAR_LEFT, y, BAR_LEFT + BAR_WIDTH, y + 28), fill=PALE)
    length = round(max(result.similarity, 0.0) * BAR_WIDTH)
    if length > 0:
        draw.rectangle((BAR_LEFT, y, BAR_LEFT + length, y + 28), fill=colour)
    _lenient_mark(draw, BAR_LEFT + round(result.thresholds[0.01] * BAR_WIDTH), y - 4, y + 32)
    _strict_mark(draw, BAR_LEFT + round(result.thresholds[0.001] * BAR_WIDTH), y - 4, y + 32)
    _text(draw, (VERDICT_LEFT, y - 3), text, 19, width=WIDTH - MARGIN - VERDICT_LEFT)
    other = result.other
    beside = "" if other is None else f"; to the other photo {other.after:.2f} (before {other.before:.2f})"
    said = f"similarity {result.similarity:.2f}{beside}"
    _text(draw, (VERDICT_LEFT, y + 19), said, 16, GREY, width=WIDTH - MARGIN - VERDICT_LEFT)


def _verdict(result: RecognizerResult, wish: Wish) -> tuple[str, Colour]:
    known, unknown = (WANTED, UNWANTED) if wish is Wish.KNOWN else (UNWANTED, WANTED)
    if result.is_verified(0.001):
        return "recognised", known
    if result.is_verified(0.01):
        return "possibly recognised", UNCLEAR
    return "not recognised", unknown


def _lenient_mark(draw: ImageDraw.ImageDraw, x: int, top: int, bottom: int) -> None:
    for start in range(top, bottom, 8):
        draw.line((x, start, x, min(start + 4, bottom)), fill=INK, width=2)


def _strict_mark(draw: ImageDraw.ImageDraw, x: int, top: int, bottom: int) -> None:
    draw.line((x, top, x, bottom), fill=INK, width=4)


def _draw_legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    _rule(draw, top)
    lines = (
        "A bar that reaches this mark: recognised. Of two strangers, 1 pair in 1000 gets this far.",
        "A bar that reaches this mark: possibly recognised. Of two strangers, 1 pair in 100 gets this far.",
        "held out: the method did not know this recogniser, so these count.   seen: the method worked against it.",
    )
    for row, (text, indent) in enumerate(zip(lines, (22, 22, 0), strict=True)):
        _text(draw, (MARGIN + indent, top + 16 + 32 * row), text, 18)
    _strict_mark(draw, MARGIN + 6, top + 16, top + 40)
    _lenient_mark(draw, MARGIN + 6, top + 48, top + 72)


def _draw_quality(draw: ImageDraw.ImageDraw, top: int, report: PrivacyReport) -> None:
    _rule(draw, top)
    where = "Inside the mask" if report.is_mask_given else "Where it changed"
    _text(draw, (MARGIN, top + 14), where, 18)
    _text(draw, (MARGIN + 190, top + 14), _quality_text(report.inside), 18, GREY)
    _text(draw, (MARGIN, top + 44), "Outside", 18)
    outside = _quality_text(report.outside) if report.is_mask_given else "not judged, no mask was given"
    _text(draw, (MARGIN + 190, top + 44), outside, 18, GREY)


def _quality_text(quality: Quality) -> str:
    if quality.psnr_db is None:
        return "there are no such pixels"
    if math.isinf(quality.psnr_db):
        return "unchanged, pixel for pixel"
    parts = [f"PSNR {quality.psnr_db:.1f} dB", f"SSIM {quality.ssim:.3f}"]
    parts += [] if quality.lpips is None else [f"LPIPS {quality.lpips:.3f}"]
    return "    ".join([*parts, f"largest change {quality.max_abs_difference} of 255"])


def _rule(draw: ImageDraw.ImageDraw, y: int) -> None:
    draw.line((MARGIN, y, WIDTH - MARGIN, y), fill=PALE, width=2)


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


def _text(
    draw: ImageDraw.ImageDraw,
    position: tuple[int, int],
    text: str,
    size: int,
    colour: Colour = INK,
    width: int | None = None,
) -> None:
    """Write a line, smaller when it is wider than allowed."""
    font = ImageFont.load_default(size)
    length = font.getlength(text)
    if width is not None and length > width:
        font = ImageFont.load_default(max(8.0, size * width / length))
    draw.text(position, text, font=font, fill=colour)
