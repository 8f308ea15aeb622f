"""Whether a cover does its work: a face is seen, and it is not the original's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..metrics.similarity import compute_similarity, cut_window
from ..protocols import FaceDetector, FaceRecognizer
from ..types import Face
from .picture import Picture

FALSE_MATCH_RATE = 1e-2
"""Stricter than the rate at which covers are judged afterwards: a margin for recognisers that are not here."""
MAX_DOUBT = 0.03
"""By how much less than of the original the detector may be sure of a cover; it is for smeared ones."""

MAX_SHIFT = 0.5
"""Of a face's width, between the centres of a face and of the one that covers it."""


class CoverCheck:
    """Looks at covers with a detector and recognisers.

    Args:
        detector: Finds faces.
        recognizers: None of them may take the cover for the original. May be empty.
    """

    def __init__(self, detector: FaceDetector, recognizers: Sequence[FaceRecognizer] = ()) -> None:
        self.detector = detector
        self.recognizers = tuple(recognizers)

    def __call__(self, original: Picture, published: Picture, faces: Sequence[Face]) -> list[str | None]:
        """Check the covers of several faces.

        Args:
            original, published: (H, W, 3) uint8.
            faces: The original faces.

        Returns:
            For each face None, or what is wrong with its cover.
        """
        found = self.detector.detect(published)
        return [self._check(original, published, face, found) for face in faces]

    def _check(self, original: Picture, published: Picture, face: Face, found: Sequence[Face]) -> str | None:
        near = [other for other in found if _distance(face, other) < MAX_SHIFT * face.width]
        if not near:
            return "no face is found in it"
        cover = min(near, key=lambda other: _distance(face, other))
        before = cut_window(original, face.landmarks5)
        after = [cut_window(published, landmarks) for landmarks in (face.landmarks5, cover.landmarks5)]
        for recognizer in self.recognizers:
            if compute_similarity(before, after, recognizer) > recognizer.thresholds[FALSE_MATCH_RATE]:
                return f"{recognizer.name} takes it for the original"
        return "the face in it is indistinct" if cover.confidence < face.confidence - MAX_DOUBT else None


def _distance(face: Face, other: Face) -> float:
    centres = [np.array([box[0] + box[2], box[1] + box[3]]) / 2 for box in (face.bbox_xyxy, other.bbox_xyxy)]
    return float(np.linalg.norm(centres[0] - centres[1]))
