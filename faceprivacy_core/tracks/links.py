"""Faces of one frame linked to those of the frames before, by where they must be and whom they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..errors import InputError
from ..metrics.similarity import cut_window
from ..protocols import FaceRecognizer
from ..types import Face, FloatArray, Picture
from .cuts import CutFinder

SAME_PERSON_FMR = 0.001
NEAR = 0.8
"""A face that moved further than this part of its size from where it must be is linked by its identity alone."""
SAME_SIZE = 1.5
OTHER_PERSON = 0.15
"""A near face that is less alike than this is somebody else, unless nobody else is there."""
IDENTITY_COST = 2.0
"""What a similarity of 0 instead of 1 costs, in sizes of a face."""
FORBIDDEN = 1e6


@dataclass(frozen=True)
class TrackSettings:
    """How faces are followed.

    Attributes:
        max_gap: Frames for which a face may be lost and is filled in; after more, it has left.
        reach: Frames before the first and after the last sighting in a scene that are filled in, too: a detector loses
            a face before people do.
    """

    max_gap: int = 25
    reach: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.max_gap <= 10_000 or not 0 <= self.reach <= 100:
            raise InputError(
                f"Expected a gap of 0 to 10000 frames and a reach of 0 to 100, got {self.max_gap} and {self.reach}."
            )


@dataclass(eq=False)
class Tracklet:
    """One face through one scene, as far as it can be followed.

    Attributes:
        number: Of the tracklet, from 0, in the order of first sight.
        shot: Scene, from 0.
        faces: Sightings in order; `image_index` is the frame.
        vector: Identity vector (E,), the mean of all sightings, of any length; its direction counts.
    """

    number: int
    shot: int
    faces: list[Face] = field(default_factory=list)
    vector: FloatArray = field(default_factory=lambda: np.zeros(1))
    last_vector: FloatArray = field(default_factory=lambda: np.zeros(1))

    def add(self, face: Face, vector: FloatArray) -> None:
        """Add a sighting."""
        self.vector = vector if not self.faces else self.vector + vector
        self.last_vector = vector
        self.faces.append(face)

    def place_at(self, frame: int) -> FloatArray:
        """Return where the nose must be in a frame, if the face moves on as it did."""
        last = self.faces[-1]
        before = next((face for face in reversed(self.faces[-4:]) if face.image_index < last.image_index), last)
        steps = max(1, last.image_index - before.image_index)
        speed = (last.landmarks5[2] - before.landmarks5[2]) / steps
        return last.landmarks5[2] + speed * min(frame - last.image_index, 3)

    def likeness(self, vectors: FloatArray) -> FloatArray:
        """Return how alike (K, E) unit vectors are to this person, (K,)."""
        mean = self.vector / max(float(np.linalg.norm(self.vector)), 1e-12)
        return np.maximum(vectors @ mean, vectors @ self.last_vector)


class Linker:
    """Follows the faces of a clip, told frame by frame; memory grows with the sightings alone.

    Args:
        recognizer: Says whether two faces are one person; one that the methods may see through.
        settings: See `TrackSettings`.
    """

    def __init__(self, recognizer: FaceRecognizer, settings: TrackSettings | None = None) -> None:
        self.settings = TrackSettings() if settings is None else settings
        self.tracklets: list[Tracklet] = []
        self.shots: list[int] = [0]
        """First frame of every scene."""
        self.frames = 0
        self._recognizer = recognizer
        self._cuts = CutFinder()
        self._active: list[Tracklet] = []

    def add(self, picture: Picture, faces: Sequence[Face]) -> list[int]:
        """Link the faces of the next frame.

        Args:
            picture: (H, W, 3) uint8.
            faces: Found in it; their `image_index` is not read.

        Returns:
            The number of the tracklet of every face.
        """
        frame, self.frames = self.frames, self.frames + 1
        if self._cuts.is_cut(picture):
            self.shots.append(frame)
            self._active = []
        if not faces:
            return []
        faces = [replace(face, image_index=frame) for face in faces]
        vectors = embed_faces(picture, faces, self._recognizer)
        owners: list[int | None] = [None] * len(faces)
        self._active = [one for one in self._active if frame - one.faces[-1].image_index <= self.settings.max_gap + 1]
        if self._active:
            costs = self._costs(frame, faces, vectors)
            for row, column in zip(*linear_sum_assignment(costs), strict=True):
                if costs[row, column] < FORBIDDEN:
                    self._active[row].add(faces[column], vectors[column])
                    owners[column] = self._active[row].number
        for index, face in enumerate(faces):
            if owners[index] is None:
                new = Tracklet(len(self.tracklets), len(self.shots) - 1)
                new.add(face, vectors[index])
                self.tracklets.append(new)
                self._active.append(new)
                owners[index] = new.number
        return [owner for owner in owners if owner is not None]

    def _costs(self, frame: int, faces: Sequence[Face], vectors: FloatArray) -> FloatArray:
        """Return what every link costs, (active, faces); FORBIDDEN where there can be none."""
        noses, sizes = np.stack([face.landmarks5[2] for face in faces]), np.array([face.area**0.5 for face in faces])
        known = self._recognizer.thresholds[SAME_PERSON_FMR]
        costs = np.full((len(self._active), len(faces)), FORBIDDEN)
        for row, one in enumerate(self._active):
            size = one.faces[-1].area ** 0.5
            missed = frame - one.faces[-1].image_index - 1
            distance = np.hypot(*(noses - one.place_at(frame)).T) / np.maximum(sizes, size)
            is_near = (distance < NEAR * (1 + 0.1 * missed)) & (np.maximum(sizes / size, size / sizes) < SAME_SIZE)
            alike = one.likeness(vectors)
            is_lonely = np.full(len(faces), len(faces) == 1 and len(self._active) == 1 and missed == 0)
            allowed = (is_near & ((alike >= OTHER_PERSON) | is_lonely)) | (alike >= known)
            cost = np.minimum(distance, 3.0) + IDENTITY_COST * (1.0 - alike)
            costs[row] = np.where(allowed, cost, FORBIDDEN)
        return costs


def embed_faces(picture: Picture, faces: Sequence[Face], recognizer: FaceRecognizer) -> FloatArray:
    """Compute identity vectors of length 1 of the faces of a picture (H, W, 3) uint8, (K, E) float64."""
    rows = []
    for face in faces:
        window = cut_window(picture, face.landmarks5)
        with torch.inference_mode(False), torch.no_grad():
            rows.append(recognizer.embed(window.images, window.landmarks5.float())[0].double().cpu().numpy())
    return np.stack(rows)
