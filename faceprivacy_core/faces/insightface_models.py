"""Detector and recogniser from InsightFace model files that the user has placed.

The files are for non-commercial use and are never shipped or fetched by this package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .. import weights
from ..errors import ModelFileError
from ..types import Face
from .calibration import load_calibration
from .detect import check_picture
from .onnx_networks import load_onnx
from .recognizers import ARC112, RecognizerSpec, TorchRecognizer
from .upright import LOOK_PX, find_faces

LICENCE = "non-commercial (InsightFace model zoo)"
DETECTOR_FILES = ("det_10g.onnx", "scrfd_10g_bnkps.onnx", "det_500m.onnx", "scrfd_500m_bnkps.onnx")
INPUT_SIDES = (1280, 640, 320, 192)
"""A face that fills the frame is found at 320 or 192 and mostly missed at 640."""

_GREY = (127.5, 127.5, 127.5)
ARCFACE_SPECS = {
    "w600k_mbf.onnx": RecognizerSpec("arcface-w600k-mbf", "arcface", ARC112, _GREY, _GREY),
    "w600k_r50.onnx": RecognizerSpec("arcface-w600k-r50", "arcface", ARC112, _GREY, _GREY),
}


class ScrfdDetector:
    """SCRFD through the package insightface, at several input sizes (a `FaceDetector`).

    Args:
        model_path: An SCRFD file with five landmarks.
        min_confidence: Detections below it are dropped, in [0, 1].

    Raises:
        ModelFileError: The package insightface is not installed.

    Source: Guo et al. (2022), Sample and Computation Redistribution for Face Detection.
    """

    name = "scrfd"
    licence = LICENCE

    def __init__(self, model_path: Path, min_confidence: float = 0.5) -> None:
        try:
            from insightface.model_zoo import get_model  # an extra, for those who placed its files
        except ImportError as error:
            raise ModelFileError(
                "Expected the packages insightface and onnxruntime for the SCRFD detector, could not import them "
                f"({error}). Run: {sys.executable} -m pip install insightface onnxruntime"
            ) from error
        self._network = get_model(str(model_path), providers=["CPUExecutionProvider"])
        self._network.prepare(ctx_id=-1, det_thresh=min_confidence)

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Detect the faces of one picture; see `protocols.FaceDetector.detect`.

        Raises:
            InputError: The picture has another shape or type, or is too small.
        """
        check_picture(image)
        return find_faces(image, self._search, lambda crop: self._faces(crop, LOOK_PX))

    def _search(self, image: NDArray[np.uint8]) -> Iterator[tuple[int, Face]]:
        for quarter in range(4):
            turned = np.rot90(image, quarter)
            for side in INPUT_SIDES:
                for face in self._faces(turned, side):
                    yield quarter, face

    def _faces(self, picture: NDArray[np.uint8], side: int) -> list[Face]:
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        boxes, landmarks = self._network.detect(bgr, input_size=(side, side))
        rows = [[float(value) for value in box] for box in boxes]
        return [
            Face(0, (left, top, right, bottom), points.astype(np.float64), min(confidence, 1.0))
            for (left, top, right, bottom, confidence), points in zip(rows, landmarks, strict=True)
        ]


def load_scrfd(folder: Path, *, min_confidence: float = 0.5) -> ScrfdDetector:
    """Load the best SCRFD detector of a folder, such as the host's models/insightface.

    Raises:
        ModelFileError: The folder holds none.
    """
    return ScrfdDetector(_find_file(folder, DETECTOR_FILES), min_confidence)


def load_arcface(folder: Path, device: torch.device | str = "cpu") -> TorchRecognizer:
    """Load an ArcFace recogniser of a folder, with measured thresholds.

    Raises:
        ModelFileError: The folder holds none, or one whose thresholds were never measured.
    """
    path = _find_file(folder, tuple(ARCFACE_SPECS))
    spec = ARCFACE_SPECS[path.name]
    calibration = load_calibration(spec.name, weights.file_sha256(path))
    return build_arcface(spec, path, calibration.thresholds, calibration.spare_thresholds).to(device)


def build_arcface(
    spec: RecognizerSpec, path: Path, thresholds: dict[float, float], spare_thresholds: dict[float, float] | None = None
) -> TorchRecognizer:
    """Convert an ArcFace file to a recogniser with the given thresholds."""
    with torch.inference_mode(False):
        return TorchRecognizer(spec, load_onnx(path), LICENCE, thresholds, spare_thresholds)


def _find_file(folder: Path, names: tuple[str, ...]) -> Path:
    """Find the first of these files in a folder or its subfolders (model packs)."""
    for name in names:
        for path in sorted(folder.rglob(name)) if folder.is_dir() else []:
            return path
    raise ModelFileError(
        f"Expected one of {', '.join(names)} in {folder}, found none. "
        "Place a file of the InsightFace model zoo "
        "there (non-commercial use), or use the default detector and recognisers."
    )
