"""Pairs of photographs of the same people, and what is measured on them.

A folder holds NNN_0.jpg and NNN_1.jpg for every person; anybody's own works. Pictures never enter the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.distributions import FMR, Judges, in_chunks, to_pictures
from faceprivacy_core.faces.detect import YuNetDetector
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.images import crop_faces, crop_landmarks
from faceprivacy_core.metrics.fidelity import compute_psnr
from faceprivacy_core.pixels import to_tensor

BORDER = 96
"""Pixels repeated around a photograph, so that a crop that leaves it finds something."""
FACE_BOX = (0.28, 0.3, 0.72, 0.85)
"""Left, top, right, bottom of the face in an aligned crop."""
TUNING, PUBLISHED = range(75), range(75, 150)
"""People that may choose settings, and people whose figures are published."""


@dataclass(frozen=True, eq=False)
class PhotoPairs:
    """Aligned crops of N people, two photographs each.

    Attributes:
        first, second: (N, 3, S, S) in [0, 1].
        first_points, second_points: (N, 5, 2) landmarks in pixels of the crop.
        names: Of the people.
    """

    first: Tensor
    second: Tensor
    first_points: Tensor
    second_points: Tensor
    names: tuple[str, ...]


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Read a photograph (H, W, 3) with its edges repeated around it."""
    with Image.open(path) as opened:
        picture = np.array(opened.convert("RGB"))
    return np.pad(picture, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")


def read_pairs(folder: Path, people: Sequence[int], detector: YuNetDetector, size: int) -> PhotoPairs:
    """Cut the largest face of both photographs of every person; people of whom one is missing are left out.

    Raises:
        SystemExit: There is no pair.
    """
    rows, names = [], []
    for number in people:
        paths = [folder / f"{number:03d}_{i}.jpg" for i in (0, 1)]
        found = [_cut(path, detector, size) for path in paths if path.is_file()]
        if len(found) == 2 and None not in found:
            rows.append([part for pair in found for part in pair])
            names.append(f"{number:03d}")
    if not rows:
        raise SystemExit(f"Expected pairs 000_0.jpg, 000_1.jpg, ... with a face in each in {folder}, found none.")
    first, first_points, second, second_points = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return PhotoPairs(first, second, first_points, second_points, tuple(names))


def _cut(path: Path, detector: YuNetDetector, size: int) -> tuple[Tensor, Tensor] | None:
    picture = read_photo(path)
    faces = detect_faces([picture], detector, Selection(Which.LARGEST))
    if not faces.items:
        return None
    crop, placed = crop_faces(to_tensor(picture), faces, size)
    return crop, crop_landmarks(placed)


def sharpness(images: Tensor) -> Tensor:
    """Return the variance (N,) of the Laplacian of the brightness inside the face, of images (N, 3, S, S) in [0, 1]."""
    side = images.shape[-1]
    left, top, right, bottom = (round(part * side) for part in FACE_BOX)
    kernel = images.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    edges = torch.nn.functional.conv2d(images.mean(1, keepdim=True)[..., top:bottom, left:right], kernel)
    return edges.var(dim=(1, 2, 3))


def compare_photos(changed: Tensor, pairs: PhotoPairs, judges: Judges) -> dict[str, float]:
    """Compare changed first photographs (N, 3, S, S) in [0, 1] with the originals and with the people's second ones.

    Returns:
        Means of PSNR, LPIPS and the ratio of sharpness, and for every recogniser the mean similarity to the original and how
        often the other photograph is accepted at the photographs' threshold, before and after.
    """
    originals = list(zip(to_pictures(pairs.first), to_pictures(changed), strict=True))
    everywhere = np.ones(originals[0][0].shape[:2], dtype=np.bool_)
    figures = {
        "PSNR, dB": float(np.mean([compute_psnr(*pair, everywhere) for pair in originals])),
        "LPIPS": float(np.mean([float(judges.perceptual.compute_map(*pair).mean()) for pair in originals])),
        "sharpness, ratio of medians": float(sharpness(changed).median() / sharpness(pairs.first).median()),
    }
    for recognizer in judges.recognizers:
        before = in_chunks(recognizer.embed, pairs.first, pairs.first_points)
        after = in_chunks(recognizer.embed, changed, pairs.first_points)
        other = in_chunks(recognizer.embed, pairs.second, pairs.second_points)
        limit = recognizer.thresholds[FMR]
        figures[f"cosine {recognizer.name}"] = float((before * after).sum(1).mean())
        for when, vectors in (("before", before), ("after", after)):
            accepted = ((vectors * other).sum(1) > limit).float().mean()
            figures[f"other photo accepted {when}, {recognizer.name}"] = float(accepted)
    return figures
