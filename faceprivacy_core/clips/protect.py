"""Protect the faces of a clip: a first pass finds people, a second one draws and writes, both one frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import numpy as np

from ..anonymize import Look
from ..errors import InputError, NoFaceError
from ..faces.people import People
from ..faces.select import Which
from ..protect import DrawingTools, Method, ProtectSettings
from ..protocols import FaceDetector, FaceRecognizer
from ..tracks.follow import Followed, settle
from ..tracks.links import Linker, TrackSettings
from ..tracks.people import choose_people
from ..types import Face, Picture
from ..video.reading import Clip, ClipInfo
from ..video.writing import ClipSettings, ClipWriter
from .dressing import Dressed, Dresser
from .looks import NewLook, draw_look
from .views import View, Views

FINDING, DRAWING, WRITING = "finding faces", "drawing new faces", "writing"
BRIEF = 3
"""A person who is seen in fewer frames of a longer clip is hidden by the fallback: mostly a mistake of the detector."""


class Lost(str, Enum):
    """What becomes of a face in frames in which it was lost."""

    FILL = "fill"
    BLUR = "blur"
    ERROR = "error"


@dataclass(frozen=True)
class ClipProtection:
    """How the faces of a clip are protected.

    Attributes:
        protect: Method, fallback, drawing.
        lost: What becomes of a face in frames in which no detector finds it, between two in which one does.
        max_gap_s: For how long a face may be lost; after longer it has left.
        which: Everybody, or people by reference.
        references: Pictures (H, W, 3) uint8 of the people `which` means.
        start, end: The part that is written, seconds; None is the beginning, or the end.
        writing: Codec, quality, sound.
        people: Saved people `which` means.
    """

    protect: ProtectSettings = field(default_factory=ProtectSettings)
    lost: Lost = Lost.FILL
    max_gap_s: float = 1.0
    which: Which = Which.ALL
    references: tuple[Picture, ...] = ()
    start: float | None = None
    end: float | None = None
    writing: ClipSettings = field(default_factory=ClipSettings)
    people: tuple[People, ...] = ()

    def __post_init__(self) -> None:
        if self.which not in (Which.ALL, Which.ONLY_REFERENCE, Which.EXCEPT_REFERENCE):
            raise InputError(f"Expected everybody, or people by reference, for a clip, got {self.which.value!r}.")
        if self.protect.method is Method.NEW_FACE and self.protect.drawing.look is not Look.DONOR:
            raise InputError("Expected a generated person's look for a clip, got the person's own. Choose --look donor.")
        if (self.start or 0.0) < 0.0 or (self.end is not None and self.end <= (self.start or 0.0)):
            raise InputError(f"Expected an end after the start, and neither below 0, got {self.start} and {self.end} seconds.")
        if not 0.0 <= self.max_gap_s <= 60.0:
            raise InputError(f"Expected a gap of 0 to 60 seconds, got {self.max_gap_s}.")


@dataclass(frozen=True, eq=False)
class Found:
    """What the first pass knows of a clip.

    Attributes:
        info: What the clip says of itself.
        followed: The people, everybody's faces.
        chosen: Those who are protected.
        times: Of every frame, seconds.
        views, samples: Of every person.
    """

    info: ClipInfo
    followed: Followed
    chosen: frozenset[int]
    times: tuple[float, ...]
    views: dict[int, list[View]]
    samples: dict[int, list[View]]


Advance = Callable[[str, int, int | None], None]
"""Told what is being done, how far, and of how many (None: nobody knows)."""
Watch = Callable[[int, Picture, Dressed, Sequence[Face]], None]
"""Told every written frame: its number, the original, what was made of it, and its protected faces."""


def find_people(
    path: Path,
    request: ClipProtection,
    detector: FaceDetector,
    recognizers: Sequence[FaceRecognizer],
    size: int,
    advance: Advance,
) -> Found:
    """Find and follow the people of a clip.

    Args:
        path: The clip.
        request: What is wanted.
        detector: Finds faces in every frame.
        recognizers: The last one says who is who; all of them choose people.
        size: Side of the crops that new faces are drawn for, pixels.
        advance: Told after every frame.

    Raises:
        InputError: The clip cannot be read, or a face is lost and that is an error.
        NoFaceError: There is no face in any frame, or nobody was chosen.
    """
    times: list[float] = []
    with Clip(path) as clip:
        info = clip.info
        linker = Linker(recognizers[-1], TrackSettings(max_gap=round(request.max_gap_s * float(info.rate))))
        views = Views(size)
        before: Picture | None = None
        faces: list[Face] = []
        for frame in clip.frames(request.start, request.end):
            if before is None or not np.array_equal(frame.pixels, before):
                faces = detector.detect(frame.pixels)
            before = frame.pixels
            for owner, face in zip(linker.add(frame.pixels, faces), faces, strict=True):
                views.add(owner, frame.pixels, replace(face, image_index=frame.index))
            times.append(frame.seconds)
            advance(FINDING, frame.index + 1, info.frames)
    if not times:
        raise InputError(
            f"Expected frames between {request.start or 0} and {request.end or 'the end'} s, {path} has none there."
        )
    followed = settle(linker, (info.height, info.width), recognizers[-1])
    if not followed.people:
        raise NoFaceError(
            f"Expected at least one face, found none in {len(times)} frames. If there is one, it may be too small "
            "or turned away."
        )
    owners = {person: [i for i, one in enumerate(followed.person_of) if one == person] for person in range(followed.people)}
    clear = {person: views.of(numbers) for person, numbers in owners.items()}
    samples = {person: views.samples_of(numbers) for person, numbers in owners.items()}
    chosen = set(owners)
    if request.which is not Which.ALL:
        looks = {p: [(view.crop, view.face) for view in [*clear[p], *samples[p]]] for p in owners}
        chosen = choose_people(looks, request.which, recognizers, request.references, detector, request.people)
        if not chosen:
            raise NoFaceError("Expected somebody whom the reference means, found nobody of these people in the clip.")
    found = Found(info, followed, frozenset(chosen), tuple(times), clear, samples)
    _check_lost(found, request)
    return found


def draw_looks(found: Found, request: ClipProtection, tools: DrawingTools, advance: Advance) -> dict[int, NewLook]:
    """Draw the new face of every chosen person who is seen for long enough; people without one are hidden."""
    looks: dict[int, NewLook] = {}
    for count, person in enumerate(sorted(found.chosen)):
        seen = sum(face.track == person and face.confidence > 0 for face in found.followed.faces.items)
        if seen >= min(BRIEF, len(found.times)):
            look = draw_look(
                found.views[person], person, tools, request.protect.drawing, samples=found.samples[person]
            )  # fmt: skip
            if look is not None:
                looks[person] = look
        advance(DRAWING, count + 1, len(found.chosen))
    return looks


def write_protected(
    path: Path,
    target: Path,
    found: Found,
    looks: dict[int, NewLook],
    recognizers: Sequence[FaceRecognizer],
    request: ClipProtection,
    advance: Advance,
    watch: Watch,
) -> None:
    """Write the clip with protected faces.

    Args:
        path: The clip, the same as in the first pass.
        target: File to write.
        found, looks: Of the first pass.
        recognizers: Look at every drawn face; none is needed for other methods than new faces.
        request: What is wanted.
        advance, watch: Told after every frame.

    Raises:
        InputError: The clip has changed since, or cannot be written.
        NumericalError: A new face is not good enough and the fallback is an error.
    """
    dresser = Dresser(looks, recognizers, request.protect, fill=request.lost is Lost.FILL)
    places = _by_frame(found)
    with Clip(path) as clip, ClipWriter(target, clip, request.writing, request.start) as writer:
        count = 0
        for item in clip.items(request.start, request.end, sound=request.writing.sound):
            if not hasattr(item, "pixels"):
                writer.write_sound(item)
                continue
            if item.index >= len(found.times):
                break
            faces = places.get(item.index, ())
            if item.index in found.followed.shots:
                dresser.forget_light()
            dressed = dresser.dress(item.pixels, faces)
            writer.write(dressed.picture, item.time, item.length)
            watch(item.index, item.pixels, dressed, faces)
            count += 1
            advance(WRITING, count, len(found.times))
    if count != len(found.times):
        raise InputError(f"Expected {len(found.times)} frames as before, got {count}. {path} has changed meanwhile.")


def _by_frame(found: Found) -> dict[int, list[Face]]:
    places: dict[int, list[Face]] = {}
    for face in found.followed.only(found.chosen).faces.items:
        places.setdefault(face.image_index, []).append(face)
    return places


def _check_lost(found: Found, request: ClipProtection) -> None:
    if request.lost is not Lost.ERROR:
        return
    lost = [face for face in found.followed.only(found.chosen).filled() if _is_between(face, found.followed)]
    if lost:
        first = min(lost, key=lambda face: face.image_index)
        raise InputError(
            f"Expected person {first.track} in every frame in between, lost the face at {found.times[first.image_index]:.2f} "
            "s. Say --lost fill or --lost blur."
        )


def _is_between(face: Face, followed: Followed) -> bool:
    seen = [one.image_index for one in followed.faces.items if one.track == face.track and one.confidence > 0]
    return min(seen) < face.image_index < max(seen)
