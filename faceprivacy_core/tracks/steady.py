"""The places of one person's face through a clip: gaps filled in, jitter taken out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy.signal import savgol_filter

from ..faces.by_hand import GUESSED
from ..types import Face, FloatArray
from .links import TrackSettings

SHORT, LONG = 7, 25
"""Places are fitted by parabolas over so many frames: the long fit takes out the trembling, the short one follows."""
FEW = 13
"""Over fewer frames the long fit is a line."""
MAX_LAG = 0.03
"""A long fit may differ from the short one by this part of the face's size; what differs more is movement."""
MAX_MOVE = 0.05
"""A landmark is moved by at most this part of the face's size: a mask must stay where the face is."""
CORNERS = 4
"""Numbers of a face's box, which come before those of its landmarks."""
MIN_INSIDE = 0.3
"""A face that is filled in before its first sight or after its last must show this much of itself in the picture."""


def steady_faces(
    faces: Iterable[Face], shots: Sequence[int], frames: int, size: tuple[int, int], settings: TrackSettings
) -> list[Face]:
    """Fill in and smooth the places of one person.

    Args:
        faces: Sightings of the person, one a frame at most.
        shots: First frame of every scene.
        frames: Number of frames of the clip.
        size: Height and width of the frames.
        settings: What is filled in.

    Returns:
        Faces by frame. Those that were filled in have confidence 0; those that were seen keep theirs.
    """
    runs: list[list[Face]] = []
    for face in sorted(faces, key=lambda face: face.image_index):
        last = runs[-1][-1] if runs else None
        if last is not None and _is_continued(last, face, shots, settings.max_gap):
            runs[-1] += [*_between(last, face), face]
        else:
            runs.append([face])
    steady: dict[int, Face] = {}
    for run in runs:
        for face in _smooth(_reach_out(run, shots, frames, size, settings.reach)):
            known = steady.get(face.image_index)
            if known is None or known.confidence < face.confidence:
                steady[face.image_index] = face
    return [steady[index] for index in sorted(steady)]


def _is_continued(last: Face, face: Face, shots: Sequence[int], max_gap: int) -> bool:
    scenes = np.searchsorted(shots, [last.image_index, face.image_index], side="right")
    return bool(scenes[0] == scenes[1]) and face.image_index - last.image_index - 1 <= max_gap


def _between(first: Face, second: Face) -> list[Face]:
    """Fill in the frames between two sightings."""
    span = second.image_index - first.image_index
    return [_mix(first, second, first.image_index + step, step / span) for step in range(1, span)]


def _mix(first: Face, second: Face, frame: int, part: float) -> Face:
    """Return the face on the way from one place to another, or beyond either, as one that was not seen."""
    values = (1.0 - part) * _values(first) + part * _values(second)
    return replace(_with_values(first, values), image_index=frame, confidence=GUESSED)


def _reach_out(run: list[Face], shots: Sequence[int], frames: int, size: tuple[int, int], reach: int) -> list[Face]:
    scene = int(np.searchsorted(shots, run[0].image_index, side="right"))
    begin, end = shots[scene - 1], shots[scene] if scene < len(shots) else frames
    longer = list(run)
    for step, neighbour, limit in ((-1, run[min(1, len(run) - 1)], begin - 1), (1, run[-min(2, len(run))], end)):
        edge = longer[0] if step < 0 else longer[-1]
        for far in range(1, reach + 1):
            frame = edge.image_index + step * far
            if frame == limit:
                break
            span = abs(edge.image_index - neighbour.image_index)
            face = _mix(neighbour, edge, frame, 1.0 + far / span if span else 1.0)
            if _part_inside(face, size) < MIN_INSIDE:
                break
            longer = [face, *longer] if step < 0 else [*longer, face]
    return longer


def _smooth(run: list[Face]) -> list[Face]:
    """Fit the places of consecutive frames; what was seen is moved by a little at most."""
    rows, sizes = np.stack([_values(face) for face in run]), np.array([face.area**0.5 for face in run])
    near = _fitted(rows, SHORT, 2)
    steady = near + _within(_fitted(rows, LONG, 1 if len(rows) < FEW else 2) - near, MAX_LAG * sizes)
    moved = _within(steady - rows, MAX_MOVE * sizes)
    return [_with_values(face, row) for face, row in zip(run, rows + moved, strict=True)]


def _fitted(rows: FloatArray, window: int, degree: int) -> FloatArray:
    window = min(window, len(rows) - (1 - len(rows) % 2))
    return savgol_filter(rows, window, degree, axis=0, mode="interp") if window > degree else rows


def _within(moves: FloatArray, limits: FloatArray) -> FloatArray:
    """Shorten the moves of all points of a face alike, so that no landmark moves further than its limit."""
    far = np.hypot(moves[:, CORNERS::2], moves[:, CORNERS + 1 :: 2]).max(axis=1)
    return moves * np.minimum(1.0, limits / np.maximum(far, 1e-9))[:, None]


def _values(face: Face) -> FloatArray:
    return np.concatenate([np.asarray(face.bbox_xyxy, dtype=np.float64), face.landmarks5.ravel()])


def _with_values(face: Face, values: FloatArray) -> Face:
    left, top, right, bottom = (float(value) for value in values[:4])
    return replace(face, bbox_xyxy=(left, top, right, bottom), landmarks5=values[4:].reshape(5, 2).copy())


def _part_inside(face: Face, size: tuple[int, int]) -> float:
    left, top, right, bottom = face.bbox_xyxy
    across, down = min(right, size[1]) - max(left, 0.0), min(bottom, size[0]) - max(top, 0.0)
    return max(0.0, across) * max(0.0, down) / max(face.area, 1e-9)
