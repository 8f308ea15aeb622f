"""People of a clip from the faces of its frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from ..protocols import FaceRecognizer
from ..types import Face, Faces, Picture
from .links import Linker, Tracklet, TrackSettings
from .people import join_people, take_in_strays
from .steady import steady_faces


@dataclass(frozen=True, eq=False)
class Followed:
    """The people of a clip.

    Attributes:
        faces: Of all frames, by frame and person; `track` is the person. Those with confidence 0 were filled in.
        people: Number of people.
        shots: First frame of every scene.
        person_of: The person of every tracklet.
    """

    faces: Faces
    people: int
    shots: tuple[int, ...]
    person_of: tuple[int, ...]

    def filled(self) -> tuple[Face, ...]:
        """Return the faces that no detector found."""
        return tuple(face for face in self.faces.items if face.confidence <= 0.0)

    def only(self, people: Collection[int]) -> Followed:
        """Return the same with the faces of some people alone; they keep their numbers."""
        return replace(self, faces=replace(self.faces, items=tuple(f for f in self.faces.items if f.track in people)))


def follow_faces(
    pictures: Iterable[Picture], faces: Faces, recognizer: FaceRecognizer, settings: TrackSettings | None = None
) -> Followed:
    """Link the faces of consecutive frames into people.

    Args:
        pictures: The frames, (H, W, 3) uint8, in order; read one at a time.
        faces: Found in them.
        recognizer: Says whether two faces are one person.
        settings: What is filled in.

    Returns:
        The people; numbers begin with 0 in the order of first sight.

    Laws: every given face is one of the result's, moved by at most `steady.MAX_MOVE` of its size; a person has one face a
        frame at most.
    """
    linker = Linker(recognizer, settings)
    for index, picture in enumerate(pictures):
        linker.add(picture, faces.of_image(index))
    return settle(linker, (faces.height, faces.width), recognizer)


def settle(linker: Linker, size: tuple[int, int], recognizer: FaceRecognizer) -> Followed:
    """Join what a linker has seen into people and steady their places; `size` is height and width of the frames."""
    person_of = take_in_strays(linker.tracklets, join_people(linker.tracklets, recognizer), linker.settings.max_gap)
    people = max(person_of, default=-1) + 1
    items: list[Face] = []
    for person in range(people):
        seen = [face for one in _of(linker.tracklets, person_of, person) for face in one.faces]
        steady = steady_faces(seen, linker.shots, linker.frames, size, linker.settings)
        items += [replace(face, track=person) for face in steady]
    items.sort(key=lambda face: (face.image_index, face.track))
    return Followed(Faces(tuple(items), linker.frames, *size), people, tuple(linker.shots), tuple(person_of))


def _of(tracklets: Sequence[Tracklet], person_of: Sequence[int], person: int) -> list[Tracklet]:
    return [one for one, its in zip(tracklets, person_of, strict=True) if its == person]
