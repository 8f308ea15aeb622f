"""Pictures of the cloaking benchmark, and how what became of them is judged."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.pictures import read_picture
from faceprivacy_core.align import invert_affine, transform_points
from faceprivacy_core.faces.detect import YuNetDetector
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.images import crop_faces, cut
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_psnr, compute_ssim
from faceprivacy_core.metrics.perceptual import PerceptualDistance
from faceprivacy_core.metrics.report import PrivacyReport, compute_report
from faceprivacy_core.pixels import to_pixels, to_tensor
from faceprivacy_core.protocols import FaceRecognizer
from faceprivacy_core.types import Face, FaceCrops, Faces

VIEW = 256
"""Side of the face crop in which quality is measured, as in the paper."""

Pixels = NDArray[np.uint8]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture with one face.

    Attributes:
        pixels: (H, W, 3) uint8.
        image: The same, (1, 3, H, W) in [0, 1].
        faces: Its largest face.
        mask: (1, 1, H, W), where the face may change.
        crops: Placement of the crop to judge; None when the picture is the crop.
    """

    pixels: Pixels
    image: Tensor
    faces: Faces
    mask: Tensor
    crops: FaceCrops | None

    @property
    def landmarks5(self) -> Tensor:
        """Landmarks (1, 5, 2) of the face."""
        return torch.from_numpy(self.faces.items[0].landmarks5.copy()).float()[None]

    def view(self, image: Tensor) -> Pixels:
        """Cut the face crop out of a picture (1, 3, H, W) of this scene's size."""
        return to_pixels(image if self.crops is None else cut(image, self.crops))


def open_scene(path: Path, detector: YuNetDetector) -> Scene:
    """Read a picture, shorter side 384 pixels, with its largest face.

    Raises:
        NoFaceError: There is none.
    """
    pixels = read_picture(path)
    faces = detect_faces([pixels], detector, Selection(Which.LARGEST))
    image = to_tensor(pixels)
    _, crops = crop_faces(image, faces, VIEW)
    return Scene(pixels, image, faces, draw_masks(faces, MaskSettings())[:, None], crops)


def crop_scene(scene: Scene, size: int) -> Scene:
    """Make the aligned crop of a face a picture of its own, as the released code wants it."""
    images, crops = crop_faces(scene.image, scene.faces, size)
    crop = crops.items[0]
    left, top, right, bottom = crop.face.bbox_xyxy
    corners = transform_points(invert_affine(crop.crop_to_image), np.array([[left, top], [right, bottom]]))
    bbox = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
    faces = Faces((Face(0, bbox, crop.landmarks5, crop.face.confidence),), 1, size, size)
    pixels = to_pixels(images)
    return Scene(pixels, to_tensor(pixels), faces, draw_masks(faces, MaskSettings())[:, None], None)


def through_jpeg(pixels: Pixels) -> Pixels:
    """Save as JPEG of quality 75 and read again."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    with Image.open(file) as opened:
        return np.array(opened.convert("RGB"))


def through_mean(pixels: Pixels) -> Pixels:
    """Average every 5 x 5 pixels."""
    return np.asarray(cv2.blur(pixels, (5, 5)))


def through_half(pixels: Pixels) -> Pixels:
    """Reduce to half the size and enlarge again."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG 75": through_jpeg,
    "5x5 mean": through_mean,
    "half size": through_half,
}


@dataclass(frozen=True, eq=False)
class Judge:
    """What looks at pictures; it has no part in making them."""

    detector: YuNetDetector
    recognizers: Sequence[FaceRecognizer]
    perceptual: PerceptualDistance

    def report(self, scene: Scene, image: Tensor, seen: Collection[str], other: Pixels | None = None) -> PrivacyReport:
        """Make the pack's own report of a picture (1, 3, H, W), rounded to 8 bits, and of another photo of the person."""
        return compute_report(
            scene.pixels, to_pixels(image), self.detector, self.recognizers, seen=seen, mask=scene.mask[0, 0].numpy(),
            perceptual=self.perceptual, faces=scene.faces.items, other=other,
        )  # fmt: skip

    def see(
        self, scene: Scene, image: Tensor, seen: Collection[str], *, changes: bool = False, other: Pixels | None = None
    ) -> Row:
        """Say who is recognised, beside another photo, too, and what it looks like; with `changes`, also in changed copies."""
        report = self.report(scene, image, seen, other).to_json_dict()
        for result, recognizer in zip(report["faces"][0]["recognizers"], self.recognizers, strict=True):
            result["generated_fmr_1e-2"] = recognizer.spare_thresholds[0.01]
        row = {**report["faces"][0], "inside": report["quality"]["inside"], "crop": self.quality(scene, image)}
        if changes:
            row["changed"] = {name: self._similarities(scene, change(to_pixels(image))) for name, change in CHANGES.items()}
        return row

    def quality(self, scene: Scene, image: Tensor) -> Row:
        """Compare the whole face crop."""
        before, after = scene.view(scene.image), scene.view(image)
        everywhere = np.ones(before.shape[:2], dtype=np.bool_)
        return {
            "psnr_db": compute_psnr(before, after, everywhere),
            "ssim": compute_ssim(before, after, everywhere),
            "lpips": float(self.perceptual.compute_map(before, after).mean()),
        }

    def _similarities(self, scene: Scene, pixels: Pixels) -> dict[str, float]:
        report = compute_report(
            scene.pixels, pixels, self.detector, self.recognizers, seen=(), mask=None, perceptual=None, faces=scene.faces.items
        )
        return {result.name: result.similarity for result in report.faces[0].recognizers}
