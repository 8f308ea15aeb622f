"""What was done to a clip and what recognisers see: worst frame first, people by number, frames without a face."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..metrics.report import FALSE_MATCH_RATES, HELD_OUT, SEEN
from ..metrics.similarity import compute_similarity, cut_window
from ..phrases.catalogue import ENGLISH, Phrases
from ..phrases.fonts import font_of
from ..protocols import FaceRecognizer
from ..types import Face, Picture
from .dressing import Dressed
from .protect import Found

SCHEMA_VERSION = 1
MEASURED_A_SECOND = 2.0
SHOWN, COLUMNS, TILE = 12, 4, (320, 240)
STRICT = min(FALSE_MATCH_RATES)
VERIFIED = {"verified_fmr_1e-2": 0.01, "verified_fmr_1e-3": 0.001}


@dataclass(frozen=True, eq=False)
class _Measured:
    """One frame that was measured: how far the worst similarity lies above (or below) its threshold, and a small copy."""

    frame: int
    margin: float
    faces: list[dict[str, Any]]
    picture: Picture


class ClipReport:
    """Told every written frame, measures some of them and remembers what was done.

    Args:
        found: Of the first pass.
        recognizers: Who are asked.
        seen: Names of those the method computed with; the others are held out.
        every: Frames from one that is measured to the next; None takes MEASURED_A_SECOND.
    """

    def __init__(self, found: Found, recognizers: Sequence[FaceRecognizer], seen: set[str], every: int | None = None) -> None:
        self._found = found
        self._recognizers = recognizers
        self._seen = seen
        self._every = every or max(1, round(float(found.info.rate) / MEASURED_A_SECOND))
        self._measured: list[_Measured] = []
        self._methods: dict[int, Counter[str]] = {}
        self._empty: list[int] = []

    def watch(self, index: int, original: Picture, dressed: Dressed, faces: Sequence[Face]) -> None:
        """Take note of a written frame, see `protect.Watch`; its similarity is measured as it was before it was encoded."""
        if not faces:
            self._empty.append(index)
        for face, method in zip(faces, dressed.methods, strict=True):
            self._methods.setdefault(int(face.track or 0), Counter())[method] += 1
        visible = [face for face in faces if face.confidence > 0]
        if visible and index % self._every == 0:
            self._measure(index, original, dressed, visible)

    def _measure(self, index: int, original: Picture, dressed: Dressed, faces: Sequence[Face]) -> None:
        rows, worst = [], -2.0
        for face in faces:
            before, after = (cut_window(picture, face.landmarks5) for picture in (original, dressed.picture))
            results = []
            for one in self._recognizers:
                similarity = compute_similarity(before, [after], one)
                role = SEEN if one.name in self._seen else HELD_OUT
                is_known = {name: similarity >= one.thresholds[rate] for name, rate in VERIFIED.items()}
                results.append({"name": one.name, "role": role, "similarity": round(similarity, 4)} | is_known)
                if role == HELD_OUT:
                    worst = max(worst, similarity - one.thresholds[STRICT])
            rows.append({"person": face.track, "recognizers": results})
        self._measured.append(_Measured(index, worst, rows, _small(dressed.picture)))
        if len(self._measured) > 4 * SHOWN:  # pictures of good frames are not needed
            kept = sorted(self._measured, key=lambda one: -one.margin)[:SHOWN]
            self._measured = [
                one if one in kept else _Measured(one.frame, one.margin, one.faces, one.picture[:0]) for one in self._measured
            ]

    def to_json_dict(self) -> dict[str, Any]:
        """Return the report as plain values, the worst measured frame first."""
        found, times = self._found, self._found.times
        followed = found.followed
        worst = sorted(self._measured, key=lambda one: -one.margin)
        return {
            "schema_version": SCHEMA_VERSION,
            "clip": {
                "width": found.info.width,
                "height": found.info.height,
                "frames": len(times),
                "seconds": round(times[-1], 3),
            },
            "people": [self._person(person) for person in range(followed.people)],
            "scenes_begin_s": [round(times[index], 3) for index in followed.shots],
            "without_a_face_s": [[round(times[first], 3), round(times[last], 3)] for first, last in _ranges(self._empty)],
            "frames_without_a_face": len(self._empty),
            "measured": {"every_frames": self._every, "frames": len(self._measured), "at": "as drawn, before encoding"},
            "worst_first": [{"frame": one.frame, "seconds": round(times[one.frame], 3), "faces": one.faces} for one in worst],
        }

    def _person(self, person: int) -> dict[str, Any]:
        faces = [face for face in self._found.followed.faces.items if face.track == person]
        seen = [face.image_index for face in faces if face.confidence > 0]
        there = [face.image_index for face in faces]
        away = [
            [round(self._found.times[first], 3), round(self._found.times[second], 3)]
            for first, second in pairwise(there)
            if second - first > 1
        ]
        return {
            "person": person,
            "is_protected": person in self._found.chosen,
            "frames_seen": len(seen),
            "frames_filled_in": len(there) - len(seen),
            "first_s": round(self._found.times[there[0]], 3),
            "last_s": round(self._found.times[there[-1]], 3),
            "away_s": away,
            "methods": dict(self._methods.get(person, {})),
        }

    def sheet(self, phrases: Phrases = ENGLISH) -> Picture:
        """Draw the contact sheet: protected frames alone, the worst measured ones first."""
        worst = [one for one in sorted(self._measured, key=lambda one: -one.margin) if one.picture.size][:SHOWN]
        rows = max(1, -(-len(worst) // COLUMNS))
        canvas = Image.new("RGB", (COLUMNS * TILE[0], rows * (TILE[1] + 24)), (255, 255, 255))
        draw, font = ImageDraw.Draw(canvas), font_of(phrases, 15)
        for place, one in enumerate(worst):
            left, top = place % COLUMNS * TILE[0], place // COLUMNS * (TILE[1] + 24)
            canvas.paste(Image.fromarray(one.picture), (left, top))
            known = "recognised" if one.margin >= 0 else "not recognised"
            said = f"{{seconds:.2f}} s, frame {{frame}}: {known} (1 in 1000)"
            text = phrases(said, seconds=self._found.times[one.frame], frame=one.frame)
            draw.text((left + 4, top + TILE[1] + 3), text, font=font, fill=(25, 25, 25))
        return np.asarray(canvas)

    def summary(self, phrases: Phrases = ENGLISH) -> str:
        """Say in one line what was done and what held-out recognisers see."""
        held_out = [r for one in self._measured for face in one.faces for r in face["recognizers"] if r["role"] == HELD_OUT]
        known = sum(r["verified_fmr_1e-3"] for r in held_out)
        filled = sum(face.confidence <= 0 for face in self._found.followed.only(self._found.chosen).faces.items)
        away = ", {away} without a face" if self._empty else ""
        text = (
            f"{{frames}} frames{away}, {{people}} people, {{filled}} faces filled in; {{known}} of {{asked}} held-out "
            "comparisons still recognise the person ({measured} frames measured)"
        )
        return phrases(
            text, frames=len(self._found.times), away=len(self._empty), people=len(self._found.chosen), filled=filled,
            known=known, asked=len(held_out), measured=len(self._measured),
        )  # fmt: skip


def _small(picture: Picture) -> Picture:
    ratio = min(TILE[0] / picture.shape[1], TILE[1] / picture.shape[0])
    size = max(1, round(picture.shape[1] * ratio)), max(1, round(picture.shape[0] * ratio))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of consecutive numbers as (first, last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
