"""Judge drawn faces and keep the best of several: unknown to the recognisers, in their place, and whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .faces.sight import embed_all
from .pixels import to_pixels
from .protocols import FaceDetector, FaceRecognizer

ACCEPTED_FMR = 0.01
MARGIN = 0.02
"""A candidate has to stay this far below the lenient threshold at which two pictures are taken for one person."""
REACH = 0.15
"""A candidate that is going to be led away (see `gentle_push`) may be this far above it."""
MAX_DRIFT = 0.035
"""Largest mean distance of its landmarks from the person's, as a fraction of the crop's side."""
DRIFT_UNIT = 0.01
UNSURE_UNIT = 0.05
"""Loss of the detector's confidence that costs as much as a drift of DRIFT_UNIT."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said of R candidates.

    Attributes:
        passed: (R,) bool, in its place and unknown to the recognisers.
        reachable: (R,) bool, in its place and not more like the person than REACH.
        cost: (R,) the lower, the better; infinite where no face is seen.
        nearness: (R,) largest similarity to the person, counted from the threshold.
    """

    passed: Tensor
    reachable: Tensor
    cost: Tensor
    nearness: Tensor


def judge(
    candidates: Tensor,
    landmarks5: Tensor,
    person: Sequence[Tensor],
    recognizers: Sequence[FaceRecognizer],
    detector: FaceDetector | None,
) -> Verdict:
    """Judge candidates of N faces.

    Args:
        candidates: (V * N, 3, S, S) crops in [0, 1], variant by variant.
        landmarks5: (N, 5, 2) of the person, in pixels of the crop.
        person: Identity vectors (N, E), one tensor for each recogniser.
        recognizers: Those that the method may look through.
        detector: Says whether there is a face, and where; None asks nobody.
    """
    rounds = len(candidates) // len(landmarks5)
    places = landmarks5.repeat(rounds, 1, 1)
    with torch.no_grad():
        seen = embed_all(recognizers, candidates, places)
    near = [
        (vectors.cpu() * known.cpu().repeat(rounds, 1)).sum(1) - recognizer.thresholds[ACCEPTED_FMR]
        for vectors, known, recognizer in zip(seen, person, recognizers, strict=True)
    ]
    nearness = torch.stack(near).amax(0)
    cost, in_place = nearness.clamp(min=-MARGIN) * 40.0, torch.ones(len(candidates), dtype=torch.bool)
    if detector is not None:
        drift, unsure = find_again(candidates, places, detector)
        in_place, cost = drift < MAX_DRIFT, cost + drift / DRIFT_UNIT + unsure / UNSURE_UNIT
    return Verdict(in_place & (nearness < -MARGIN), in_place & (nearness < REACH), cost, nearness)


def find_again(crops: Tensor, landmarks5: Tensor, detector: FaceDetector) -> tuple[Tensor, Tensor]:
    """Look for the face in every crop.

    Returns:
        Mean distance of its landmarks from the given ones as a fraction of the crop's side, and 1 - the
        detector's confidence, both (R,); infinite where no face is found.
    """
    side = crops.shape[-1]
    border = side // 4  # a face that fills its picture is seen less well
    drifts, doubts = [], []
    for crop, points in zip(F.pad(crops, (border,) * 4, mode="replicate"), landmarks5.double().numpy() + border, strict=True):
        faces = detector.detect(to_pixels(crop[None]))
        found = [(float(np.linalg.norm(face.landmarks5 - points, axis=1).mean()) / side, face) for face in faces]
        drift, face = min(found, key=lambda pair: pair[0], default=(float("inf"), None))
        drifts.append(drift)
        doubts.append(float("inf") if face is None else 1.0 - face.confidence)
    return torch.tensor(drifts), torch.tensor(doubts)


def best_of(cost: Tensor, num_faces: int, variants: int) -> Tensor:
    """Choose for every face and variant the cheapest of its candidates, (variants * num_faces,) indices.

    Args:
        cost: (K * variants * num_faces,), candidate by candidate, then variant by variant.
    """
    table = cost.view(-1, variants * num_faces)
    return table.argmin(dim=0) * (variants * num_faces) + torch.arange(variants * num_faces)
