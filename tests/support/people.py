"""Pictures of people who do not exist, put on a canvas at any size and roll."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faceprivacy_core.align import transform_points
from faceprivacy_core.types import Face, FloatArray

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"


@dataclass(frozen=True, eq=False)
class Head:
    """A picture (H, W, 3) uint8 RGB and its largest face."""

    picture: NDArray[np.uint8]
    face: Face

    @property
    def centre(self) -> FloatArray:
        left, top, right, bottom = self.face.bbox_xyxy
        return np.array([(left + right) / 2, (top + bottom) / 2])

    def put(
        self, canvas: NDArray[np.uint8], x: float, y: float, width: float, roll_deg: float = 0.0, reach: float = 0.85
    ) -> FloatArray:
        """Draw the head so that its face, `width` wide, is centred at (x, y); return where its landmarks are, (5, 2).

        `reach` is the radius of what is drawn, in widths of the face.
        """
        scale = width / self.face.width
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(self.picture, None, fx=scale, fy=scale, interpolation=method)
        to_canvas = cv2.getRotationMatrix2D((0, 0), -roll_deg, 1.0)
        to_canvas[:, 2] = (x, y) - to_canvas[:, :2] @ (self.centre * scale)
        size = canvas.shape[1::-1]
        drawn = cv2.warpAffine(small, to_canvas, size, borderMode=cv2.BORDER_REPLICATE)
        place = np.zeros(canvas.shape[:2], np.uint8)
        cv2.circle(place, (round(x), round(y)), round(reach * width), 1, -1)
        canvas[place > 0] = drawn[place > 0]
        return transform_points(to_canvas, (self.face.landmarks5 + 0.5) * scale - 0.5)


@cache
def head(name: str) -> Head:
    """Load `portrait`, or `openpeople N` for the Nth person of that package."""
    from faceprivacy_core.faces.detect import load_detector

    if name == "portrait":
        path = SAMPLES / "portrait.jpg"
    else:
        import openpeople

        assets = Path(openpeople.__file__).parent / "data" / "curated"
        path = sorted(assets.glob("*/assets/*selfie*"))[int(name.split()[1])]
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    scale = 700 / max(picture.shape)
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Head(picture, max(load_detector().detect(picture), key=lambda face: face.area))


def canvas(height: int, width: int) -> NDArray[np.uint8]:
    """Return an even picture with a slight slope of light."""
    row = np.linspace(90, 140, width).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def landmark_error(faces: list[Face], expected: FloatArray) -> float:
    """Return the largest error of the nearest face's landmarks, in distances between eyes and mouth."""
    unit = float(np.linalg.norm(expected[:2].mean(axis=0) - expected[3:].mean(axis=0)))
    return min((float(np.abs(face.landmarks5 - expected).max()) / unit for face in faces), default=np.inf)
