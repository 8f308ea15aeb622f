"""The views of every person that new faces are drawn for: few, clear, and of all the ways the head is held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..images import MIN_EYE_MOUTH_PX, crop_faces, eye_mouth_distance, place_crop
from ..pixels import to_pixels, to_tensor
from ..types import Face, Faces, FloatArray, Picture

OTHER_POSE = 0.03
"""Root mean square distance of aligned landmarks, as a fraction of the crop's side, from which a pose is another one."""
MAX_VIEWS = 5
SAMPLES = 4
"""Further views, half of the most that are kept, on which a new face is tried."""
CLEARLY_BETTER = 1.1
"""A view replaces one of the same pose only if it is better by this factor."""
ENOUGH_PX = 70.0
"""A face with more pixels between eyes and mouth is no better for it: crops have about this many."""


@dataclass(frozen=True, eq=False)
class View:
    """One clear view of a face.

    Attributes:
        crop: (S, S, 3) uint8, aligned.
        landmarks5: (5, 2) in its pixels.
        quality: The larger, the better.
        frame: Where it was seen.
    """

    crop: Picture
    landmarks5: FloatArray
    quality: float
    frame: int

    @property
    def face(self) -> Face:
        """Return the face in the crop."""
        side = self.crop.shape[0]
        return Face(0, (0.25 * side, 0.3 * side, 0.75 * side, 0.9 * side), self.landmarks5, 1.0)


class Views:
    """Keeps at most MAX_VIEWS views of every face that is followed.

    Args:
        size: Side of the crops, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[int, list[View]] = {}
        self._samples: dict[int, list[View]] = {}
        self._seen: dict[int, int] = {}
        self._apart: dict[int, int] = {}

    def add(self, owner: int, picture: Picture, face: Face) -> None:
        """Consider a face of a picture (H, W, 3) uint8 as a view of its owner."""
        if eye_mouth_distance(face) < MIN_EYE_MOUTH_PX:
            return
        quality = view_quality(face, picture)
        self._sample(owner, picture, face, quality)
        kept = self._kept.setdefault(owner, [])
        pose = aligned_pose(face)
        near = [view for view in kept if pose_distance(view.landmarks5 / self.size, pose) < OTHER_POSE]
        if near and max(view.quality for view in near) * CLEARLY_BETTER >= quality:
            return
        self._kept[owner] = best_views([*(v for v in kept if v not in near), cut_view(picture, face, self.size, quality)])

    def _sample(self, owner: int, picture: Picture, face: Face, quality: float) -> None:
        """Keep views that lie evenly in time: where there are twice as many as wanted, every other one goes."""
        count = self._seen.get(owner, 0)
        self._seen[owner] = count + 1
        samples = self._samples.setdefault(owner, [])
        apart = self._apart.get(owner, 1)
        if count % apart:
            return
        samples.append(cut_view(picture, face, self.size, quality))
        if len(samples) == 2 * SAMPLES:
            self._samples[owner] = samples[::2]
            self._apart[owner] = 2 * apart

    def samples_of(self, owners: Iterable[int]) -> list[View]:
        """Return at most 2 * SAMPLES views of one person that lie evenly in time, good or not."""
        found = sorted((view for owner in owners for view in self._samples.get(owner, [])), key=lambda view: view.frame)
        step = max(1, -(-len(found) // (2 * SAMPLES)))
        return found[::step]

    def of(self, owners: Iterable[int]) -> list[View]:
        """Return the views of one person, who may have been followed in several parts; the best first."""
        return best_views([view for owner in owners for view in self._kept.get(owner, [])])


def cut_view(picture: Picture, face: Face, size: int, quality: float) -> View:
    """Cut an aligned view out of a picture."""
    left, top, right, bottom = _window(face, picture)
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    moved = Face(0, face.bbox_xyxy, face.landmarks5 - (left, top), face.confidence)
    crops, placed = crop_faces(to_tensor(part), Faces((moved,), 1, *part.shape[:2]), size)
    return View(to_pixels(crops), placed.items[0].landmarks5, quality, face.image_index)


def view_quality(face: Face, picture: Picture) -> float:
    """Say how good a view is: large enough, seen for sure, from the front, and whole in the picture."""
    pose = aligned_pose(face)
    turn = abs(float(pose[2, 0] - pose[[0, 1, 3, 4], 0].mean()))
    left, top, right, bottom = face.bbox_xyxy
    height, width = picture.shape[:2]
    inside = max(0.0, min(right, width) - max(left, 0)) * max(0.0, min(bottom, height) - max(top, 0)) / max(face.area, 1e-9)
    return min(eye_mouth_distance(face), ENOUGH_PX) * face.confidence**2 * inside**2 / (1.0 + 10.0 * turn)


def aligned_pose(face: Face) -> FloatArray:
    """Return the landmarks of a face in its aligned crop, (5, 2) as fractions of the side."""
    return place_crop(face, 64).landmarks5 / 64.0


def pose_distance(first: FloatArray, second: FloatArray) -> float:
    """Return the root mean square distance of two sets of aligned landmarks."""
    return float(np.sqrt(((first - second) ** 2).sum(axis=-1).mean()))


def best_views(views: list[View]) -> list[View]:
    """Return the best view, then those of the poses that are furthest from the ones before."""
    left = sorted(views, key=lambda view: (-view.quality, view.frame))
    chosen: list[View] = []
    while left and len(chosen) < MAX_VIEWS:
        far = [min((_distance(view, one) for one in chosen), default=np.inf) for view in left]
        index = int(np.argmax(far)) if chosen else 0
        if chosen and far[index] < OTHER_POSE:
            break
        chosen.append(left.pop(index))
    return chosen


def _distance(first: View, second: View) -> float:
    return pose_distance(first.landmarks5 / first.crop.shape[0], second.landmarks5 / second.crop.shape[0])


def _window(face: Face, picture: Picture) -> tuple[int, int, int, int]:
    """Return the part of a picture that an aligned crop may touch."""
    centre = face.landmarks5.mean(axis=0)
    reach = 6.0 * eye_mouth_distance(face) + 16.0
    limits = picture.shape[1::-1]
    low = np.clip(np.floor(centre - reach), 0, np.array(limits) - 1).astype(int)
    high = np.clip(np.ceil(centre + reach), low + 1, limits).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
