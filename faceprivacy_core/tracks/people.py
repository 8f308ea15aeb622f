"""Tracklets joined into people: the same person in another scene, or after having been away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..faces.people import People, known_vectors, likeness
from ..faces.select import REFERENCE_FMR, Which
from ..protocols import FaceDetector, FaceRecognizer
from ..types import Face, Picture
from .links import SAME_PERSON_FMR, Tracklet, embed_faces

STRAY, STRAY_DISTANCE = 5, 0.4
"""Who is seen in at most this many frames, this near (in sizes of the face) to where somebody must be, is that one."""
NEVER = -2.0
"""Likeness of two that cannot be one person; of each to itself, too."""


def join_people(tracklets: Sequence[Tracklet], recognizer: FaceRecognizer) -> list[int]:
    """Say which person every tracklet shows.

    The two most alike are joined first, as long as they are alike enough to be one person. In doubt they stay two: each is
    protected all the same. Two that are seen in one frame are never joined.

    Args:
        tracklets: Of one clip.
        recognizer: The one they were linked with.

    Returns:
        The person of every tracklet, numbered from 0 in the order of first sight.
    """
    limit = recognizer.thresholds[SAME_PERSON_FMR]
    groups = [[index] for index in range(len(tracklets))]
    sums = np.stack([one.vector for one in tracklets]) if tracklets else np.zeros((0, 1))
    frames = [{face.image_index for face in one.faces} for one in tracklets]
    units = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    alike = units @ units.T
    alike[np.array([[bool(one & other) for other in frames] for one in frames], dtype=bool)] = NEVER
    while len(tracklets) > 1 and alike.max() >= limit:
        kept, gone = sorted(divmod(int(alike.argmax()), len(groups)))
        groups[kept] += groups[gone]
        groups[gone] = []
        sums[kept] += sums[gone]
        unit = sums[kept] / max(float(np.linalg.norm(sums[kept])), 1e-12)
        units[kept] = unit
        is_apart = (alike[kept] == NEVER) | (alike[gone] == NEVER)
        alike[kept] = alike[:, kept] = np.where(is_apart, NEVER, units @ unit)
        alike[gone] = alike[:, gone] = NEVER
    groups = [group for group in groups if group]
    groups.sort(key=min)
    people = [0] * len(tracklets)
    for person, members in enumerate(groups):
        for index in members:
            people[index] = person
    return people


def take_in_strays(tracklets: Sequence[Tracklet], people: Sequence[int], max_gap: int) -> list[int]:
    """Give short finds to the person who must be where they are: who is half covered is not known by the face.

    Args:
        tracklets: Of one clip.
        people: The person of each, of `join_people`.
        max_gap: Frames within which a person is looked for.

    Returns:
        The person of every tracklet, numbered anew.
    """
    people = list(people)
    for person in sorted(set(people)):
        own = [one for one, its in zip(tracklets, people, strict=True) if its == person]
        if sum(len(one.faces) for one in own) > STRAY:
            continue
        for other in sorted(set(people) - {person}):
            members = [one for one, its in zip(tracklets, people, strict=True) if its == other]
            if sum(len(one.faces) for one in members) > STRAY and all(_is_between(one, members, max_gap) for one in own):
                people = [other if its == person else its for its in people]
                break
    numbers = {its: number for number, its in enumerate(dict.fromkeys(people))}
    return [numbers[its] for its in people]


def _is_between(stray: Tracklet, members: Sequence[Tracklet], max_gap: int) -> bool:
    """Tell whether a person, not seen meanwhile, must have been where a stray is seen: on the way between two sightings."""
    faces = sorted((face for one in members if one.shot == stray.shot for face in one.faces), key=lambda face: face.image_index)
    for face in stray.faces:
        if any(one.image_index == face.image_index for one in faces):
            return False
        before = [one for one in faces if face.image_index - max_gap - 1 <= one.image_index < face.image_index]
        after = [one for one in faces if face.image_index < one.image_index <= face.image_index + max_gap + 1]
        if not before or not after:
            return False
        first, last = before[-1], after[0]
        part = (face.image_index - first.image_index) / (last.image_index - first.image_index)
        place = (1.0 - part) * first.landmarks5[2] + part * last.landmarks5[2]
        if np.hypot(*(face.landmarks5[2] - place)) > STRAY_DISTANCE * face.area**0.5:
            return False
    return True


def choose_people(
    looks: Mapping[int, Sequence[tuple[Picture, Face]]],
    which: Which,
    recognizers: Sequence[FaceRecognizer],
    references: Sequence[Picture],
    detector: FaceDetector,
    known: Sequence[People] = (),
) -> set[int]:
    """Choose people by reference photo or saved person, once for a whole clip.

    Args:
        looks: Some clear views of every person: the picture and the face in it.
        which: `ONLY_REFERENCE` or `EXCEPT_REFERENCE`.
        recognizers: At least one.
        references: Pictures of the people that are meant; every face in them counts.
        detector: Finds them.
        known: Saved people who are meant, instead of pictures or besides them.

    Returns:
        The chosen people. In doubt a person is chosen: one recogniser and one view suffice for "only these"; under "all but
        these" every recogniser must agree on every view, at a higher threshold.

    Raises:
        InputError: There is no reference, or no recogniser, or one who has not seen the saved people.
        NoFaceError: A reference holds no face.
    """
    wanted = known_vectors(references, known, detector, recognizers)
    only_these = which is Which.ONLY_REFERENCE
    chosen = set()
    for person, views in looks.items():
        matches = []
        for recognizer, vectors in zip(recognizers, wanted, strict=True):
            limit = (recognizer.thresholds if only_these else recognizer.spare_thresholds)[REFERENCE_FMR]
            found = [torch.from_numpy(embed_faces(picture, [face], recognizer)) for picture, face in views]
            matches += [bool(likeness(one, vectors).max() >= limit) for one in found]
        if (any(matches) if only_these else not (matches and all(matches))) or not matches:
            chosen.add(person)
    return chosen
