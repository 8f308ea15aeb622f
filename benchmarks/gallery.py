"""Another photograph of the person: similarity to it, and the place of the person in a search of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.matches import count_matches
from benchmarks.pairs import find_pairs
from benchmarks.pictures import find_pictures, read_picture
from faceprivacy_core.faces.recognizers import TorchRecognizer
from faceprivacy_core.metrics.similarity import cut_window
from faceprivacy_core.protocols import FaceDetector

Vectors = dict[str, list[float]]
Row = dict[str, Any]


def find_subjects(count: int, pairs: Path | None) -> list[tuple[Path, Path | None]]:
    """List pictures to protect, each with another photograph of the person where there is one.

    Without a folder of pairs: generated faces and sample photos, which have no other. With one: its test half.
    """
    return [(path, None) for path in find_pictures(count)] if pairs is None else list(find_pairs(pairs, count))


def embed_face(
    pixels: NDArray[np.uint8],
    detector: FaceDetector,
    recognizers: Sequence[TorchRecognizer],
    landmarks: NDArray[np.float64] | None = None,
) -> Vectors:
    """Compute the vectors of one face of a picture (H, W, 3).

    Args:
        pixels: The picture.
        detector: Finds faces.
        recognizers: By their names.
        landmarks: (5, 2) of where the face was; the face nearest to it counts, or this place where none is found. None takes
            the largest face.

    Raises:
        SystemExit: No face is found and no place is known.
    """
    found = detector.detect(pixels)
    if landmarks is None:
        if not found:
            raise SystemExit("Expected a face in every other photograph, found one without. Take it out of the folder.")
        points = max(found, key=lambda face: face.area).landmarks5
    else:
        centre = landmarks.mean(axis=0)
        near = sorted(found, key=lambda face: float(np.linalg.norm(face.landmarks5.mean(axis=0) - centre)))[:1]
        points = near[0].landmarks5 if near else landmarks
    window = cut_window(pixels, points)
    with torch.no_grad():
        return {r.name: r.embed(window.images, window.landmarks5.float())[0].tolist() for r in recognizers}


def look_beside(
    other: Path | None,
    pictures: dict[str, NDArray[np.uint8]],
    landmarks: NDArray[np.float64],
    detector: FaceDetector,
    recognizers: Sequence[TorchRecognizer],
) -> Row:
    """Return the vectors of another photograph and of pictures of one face, as a row; empty without another."""
    if other is None:
        return {}
    vectors = {name: embed_face(pixels, detector, recognizers, landmarks) for name, pixels in pictures.items()}
    return {"beside": vectors | {"other": embed_face(read_picture(other), detector, recognizers)}}


def ranks(probes: NDArray[np.float64], gallery: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return at which place (1 is the first) every probe (N, D) finds its own entry of the gallery (N, D)."""
    table = probes @ gallery.T
    return 1 + (table > table.diagonal()[:, None]).sum(axis=1)


def describe(rows: Sequence[Row], picture: str, recognizers: Sequence[TorchRecognizer]) -> dict[str, str]:
    """Say for every recogniser how alike a picture and the other photograph are, and what a search finds.

    Returns:
        Cells by title, two for each recogniser; none where no row has another photograph.
    """
    chosen = [row["beside"] for row in rows if "beside" in row]
    cells = {}
    for recognizer in recognizers if chosen else ():
        probes, gallery = (np.array([row[side][recognizer.name] for row in chosen]) for side in (picture, "other"))
        found = ranks(probes, gallery)
        alike = (probes * gallery).sum(axis=1)
        first, five = (int((found <= place).sum()) for place in (1, 5))
        cells[f"{recognizer.name}, other photo: similarity, matches"] = count_matches(alike, recognizer)
        cells[f"{recognizer.name}, search of all other photos: first, among 5"] = f"{first}, {five} of {len(found)}"
    return cells
