"""Face detection with YuNet at several scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import weights
from ..errors import InputError
from ..types import Face, FloatArray
from .duplicates import MERGE_IOU
from .upright import MIN_LOOK_CONFIDENCE, find_faces

MIN_CONFIDENCE = 0.7
MIN_SIDE_PX = 16
COARSEST_LONG_SIDE = 192
"""The pyramid ends about here, so that a face that fills the frame is found too."""

ENLARGE_BELOW = 1600
"""Pictures with a shorter long side are also searched at twice their size."""

TILE = 1536
TILE_OVERLAP = 320
"""Faces up to about this size are whole in one tile; larger ones are found at coarser scales."""

ANEW_FROM = 1024
"""After pictures with a longer side the network is made anew, in 4 ms: it keeps the memory of the largest tile, 150 MB."""

MAX_LEVEL_FACE_PX = 340
"""Larger faces of a level are left to the next coarser one: YuNet takes their parts for faces."""


class YuNetDetector:
    """Finds every face of a picture of any size.

    Args:
        model_path: face_detection_yunet_2023mar.onnx, see `load_detector`.
        min_confidence: Detections below it are dropped, in [0, 1].

    Source: Wu, Peng and Yu (2023), YuNet: a tiny millisecond-level face detector, through
        `cv2.FaceDetectorYN`.
    Deviations: the search runs over an image pyramid and, at fine scales, over tiles; in four turns, and
        every find is looked at again, see `upright`.
    """

    name = "yunet"

    def __init__(self, model_path: Path, min_confidence: float = MIN_CONFIDENCE) -> None:
        if not 0.0 < min_confidence < 1.0:
            raise InputError(f"Expected a confidence between 0 and 1, got {min_confidence}.")
        self._model_path, self._min_confidence = model_path, min_confidence
        self._network = self._make_network()

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Detect the faces of one picture.

        Args:
            image: (H, W, 3) uint8 RGB, both sides at least 16 pixels. Not modified.

        Returns:
            Faces by falling confidence, in pixels of this picture; empty when there are none.

        Raises:
            InputError: The picture has another shape, type, or is too small.
        """
        check_picture(image)
        try:
            return find_faces(image, self._search, self._look)
        finally:
            if max(image.shape[:2]) > ANEW_FROM:
                self._network = self._make_network()

    def _make_network(self) -> cv2.FaceDetectorYN:
        network = _create_network(self._model_path)
        network.setScoreThreshold(min(self._min_confidence, MIN_LOOK_CONFIDENCE))
        network.setNMSThreshold(MERGE_IOU)
        return network

    def _search(self, image: NDArray[np.uint8]) -> Iterator[tuple[int, Face]]:
        """Search four turns; faces of 10 pixels are found upright without enlarging, on their side, too."""
        *fine, coarsest = _scales(image.shape[:2])
        for scale in (coarsest, *fine):
            level, limit = _level(image, scale), np.inf if scale == coarsest else MAX_LEVEL_FACE_PX
            for quarter in range(4 if scale == coarsest or scale <= 1.0 else 1):
                size = image.shape[:2] if quarter % 2 == 0 else image.shape[1::-1]
                # A turned view: a copy of a large picture for every turn would take more than all tiles.
                for face in self._search_level(np.rot90(level, quarter), size, max_face=limit):
                    yield quarter, face

    def _look(self, crop: NDArray[np.uint8]) -> list[Face]:
        return [_row_to_face(row) for row in self._rows(crop)]

    def _search_level(self, level: NDArray[np.uint8], size: tuple[int, ...], *, max_face: float) -> Iterator[Face]:
        """Search one level of the pyramid of a picture of a size (height, width)."""
        height, width = level.shape[:2]
        ratio = np.array([size[1] / width, size[0] / height])
        for top, left in _tiles((height, width)):
            tile = level[top : top + TILE, left : left + TILE]
            for row in self._rows(tile):
                if row[14] < self._min_confidence or max(row[2:4]) > max_face:
                    continue
                if _is_cut(row, (top, left), tile.shape, (height, width)):
                    continue
                points = row[4:14].reshape(5, 2) + np.array([left, top])
                extent = row[2:4] * ratio
                corner = (row[:2] + np.array([left, top])) * ratio
                yield _row_to_face(np.concatenate([corner, extent, ((points + 0.5) * ratio - 0.5).ravel(), row[14:]]))

    def _rows(self, part: NDArray[np.uint8]) -> FloatArray:
        """Return what the network finds in a part of a picture, (N, 15): box, landmarks, confidence."""
        self._network.setInputSize((part.shape[1], part.shape[0]))
        _, found = self._network.detect(np.ascontiguousarray(part[:, :, ::-1]))
        rows = np.empty((0, 15)) if found is None else found.astype(np.float64)
        return rows[np.isfinite(rows).all(axis=1)]


def load_detector(search_dirs: Iterable[Path] = (), *, min_confidence: float = MIN_CONFIDENCE) -> YuNetDetector:
    """Load the default detector.

    Args:
        search_dirs: Folders to search before the default models folder.
        min_confidence: See `YuNetDetector`.

    Raises:
        ModelFileError: The model file is missing or damaged.
    """
    return YuNetDetector(weights.find("yunet", search_dirs), min_confidence)


def check_picture(image: NDArray[np.uint8]) -> None:
    """Raise InputError unless this is an RGB picture of 8 bits that a detector can search."""
    shape, kind = np.shape(image), getattr(image, "dtype", type(image).__name__)
    if len(shape) != 3 or shape[2] != 3 or kind != np.uint8:
        raise InputError(f"Expected an RGB picture of shape (H, W, 3) and type uint8, got {shape} of type {kind}.")
    if min(shape[:2]) < MIN_SIDE_PX:
        raise InputError(f"Expected a picture of at least {MIN_SIDE_PX} pixels on each side, got {shape[1]} x {shape[0]}.")


def _create_network(model_path: Path) -> cv2.FaceDetectorYN:
    model = np.frombuffer(model_path.read_bytes(), dtype=np.uint8)
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    # OpenCV 5 writes a warning about compute targets that nobody here can act on.
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        return cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (320, 320))
    finally:
        logging.setLogLevel(level)


def _level(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Return a picture at a scale."""
    if scale == 1.0:
        return image
    height, width = (max(MIN_SIDE_PX, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _scales(size: tuple[int, int]) -> list[float]:
    """Scales of the pyramid, fine to coarse, factors of two."""
    long_side = max(size)
    scale = 2.0 if long_side < ENLARGE_BELOW else 1.0
    while long_side * scale < COARSEST_LONG_SIDE:
        scale *= 2.0
    scales = [scale]
    while long_side * scales[-1] / 2 >= COARSEST_LONG_SIDE:
        scales.append(scales[-1] / 2)
    return scales


def _tiles(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Top-left corners of overlapping tiles that cover a level."""
    starts = []
    for side in size:
        count = max(1, int(np.ceil((side - TILE_OVERLAP) / (TILE - TILE_OVERLAP))))
        starts.append([round(index * (side - TILE) / max(1, count - 1)) if count > 1 else 0 for index in range(count)])
    return [(top, left) for top in starts[0] for left in starts[1]]


def _is_cut(row: FloatArray, corner: tuple[int, int], tile: tuple[int, ...], level: tuple[int, int]) -> bool:
    """Tell whether a box touches a tile border that is not a border of the level."""
    (top, left), (height, width) = corner, tile[:2]
    x, y, box_width, box_height = row[:4]
    return bool(
        (x < 1 and left > 0)
        or (y < 1 and top > 0)
        or (x + box_width > width - 1 and left + width < level[1])
        or (y + box_height > height - 1 and top + height < level[0])
    )


def _row_to_face(row: FloatArray) -> Face:
    left, top, width, height = (float(value) for value in row[:4])
    landmarks = row[4:14].reshape(5, 2)
    return Face(0, (left, top, left + width, top + height), landmarks, float(np.clip(row[14], 0.0, 1.0)))
