"""The real networks behind looks and pose: the same numbers as their references, and gradients."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core import weights
from faceprivacy_core.align import warp
from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.faces import detect
from faceprivacy_core.faces.landmarks import YuNetLandmarker, load_landmarker
from faceprivacy_core.guidance.pose import KeepLandmarks, eye_mouth_distance
from faceprivacy_core.images import crop_faces, crop_landmarks
from faceprivacy_core.metrics.perceptual import PerceptualDistance, load_perceptual
from faceprivacy_core.types import Faces

pytestmark = pytest.mark.weights
PEOPLE = Path(__file__).parents[3] / "docs" / "samples" / "two_people.jpg"


@pytest.fixture(autouse=True, scope="module")
def _files() -> None:
    try:
        weights.find("yunet")
        weights.find("lpips-alexnet")
    except ModelFileError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, Tensor]:
    """Two real crops of 256 pixels with whole levels, and their landmarks."""
    pixels = cv2.cvtColor(cv2.imread(str(PEOPLE)), cv2.COLOR_BGR2RGB)
    found = Faces(tuple(detect.load_detector().detect(pixels)), 1, *pixels.shape[:2])
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255.0
    crops, placed = crop_faces(images, found, 256)
    return (crops * 255.0).round() / 255.0, crop_landmarks(placed)


@pytest.fixture(scope="module")
def landmarker() -> YuNetLandmarker:
    return load_landmarker()


@pytest.fixture(scope="module")
def perceptual() -> PerceptualDistance:
    return load_perceptual()


@pytest.fixture(scope="module")
def keep(landmarker: YuNetLandmarker, faces: tuple[Tensor, Tensor]) -> KeepLandmarks:
    return KeepLandmarks.of_originals(landmarker, *faces)


def _uint8(image: Tensor) -> np.ndarray:
    return (image * 255.0).round().byte().permute(1, 2, 0).contiguous().numpy()


def test_best_anchor_gives_the_landmarks_of_opencv(landmarker: YuNetLandmarker, faces: tuple[Tensor, Tensor]):
    reference = detect._create_network(weights.find("yunet"))
    reference.setInputSize((256, 256))
    confidences, positions = landmarker.scan(faces[0])
    for crop, confidence, points in zip(faces[0], confidences, positions, strict=True):
        _, rows = reference.detect(np.ascontiguousarray(_uint8(crop)[:, :, ::-1]))
        best = int(confidence.argmax())
        np.testing.assert_allclose(points[best].numpy(), rows[0][4:14].reshape(5, 2), rtol=0, atol=1e-2)
        assert float(confidence[best]) == pytest.approx(float(rows[0][14]), abs=1e-4)


def test_averaged_landmarks_are_near_the_best_and_near_the_known_ones(
    landmarker: YuNetLandmarker, faces: tuple[Tensor, Tensor]
):
    images, known = faces
    focus = landmarker.focus(images, known)
    torch.testing.assert_close(focus.sum(dim=1), torch.ones(2))
    located = landmarker.locate(images, focus)
    confidences, positions = landmarker.scan(images)
    best = positions[torch.arange(2), confidences.argmax(dim=1)]
    unit = eye_mouth_distance(known)[:, None]
    assert float((torch.linalg.vector_norm(located - best, dim=2) / unit).max()) < 0.06
    assert float((torch.linalg.vector_norm(located - known, dim=2) / unit).max()) < 0.2


def test_a_batch_is_its_items(landmarker: YuNetLandmarker, faces: tuple[Tensor, Tensor]):
    focus = landmarker.focus(*faces)
    together = landmarker.locate(faces[0], focus)
    alone = torch.cat([landmarker.locate(faces[0][i : i + 1], focus[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


def test_pose_energy_is_zero_at_the_original_and_grows_with_a_shift(keep: KeepLandmarks, faces: tuple[Tensor, Tensor]):
    images, known = faces
    assert torch.equal(keep(images), torch.zeros(2))
    unit = eye_mouth_distance(known)
    last = torch.zeros(2)
    for shift in (4.0, 8.0, 16.0):
        moved = warp(images, np.array([[1.0, 0.0, -shift], [0.0, 1.0, 0.0]]), (256, 256))
        values = keep(moved)
        assert bool((values > last).all())
        torch.testing.assert_close(values, shift / unit, rtol=0.35, atol=0.0)
        last = values


def test_pose_energy_does_not_depend_on_the_size_of_the_crop(keep: KeepLandmarks, faces: tuple[Tensor, Tensor]):
    for side in (128, 512):
        resized = F.interpolate(faces[0], (side, side), mode="bilinear", antialias=True)
        assert float(keep(resized).max()) < 0.04


def test_pose_energy_agrees_with_finite_differences_and_sees_the_whole_face(keep: KeepLandmarks, faces: tuple[Tensor, Tensor]):
    images = (0.9 * faces[0].flip(3)).requires_grad_(True)
    values = keep(images)
    (gradient,) = torch.autograd.grad(values.sum(), images)
    inside = gradient[:, :, 96:192, 72:184]
    assert float((inside.abs().amax(dim=1) > 0).float().mean()) > 0.99
    direction = gradient / gradient.norm()
    up, down = (keep((images + sign * 0.01 * direction).detach()).sum() for sign in (1, -1))
    # A network of ReLU and maxima has kinks, and computes in float32.
    assert float((gradient * direction).sum()) == pytest.approx(float((up - down) / 0.02), rel=0.05)


def test_descent_brings_the_landmarks_back(keep: KeepLandmarks, faces: tuple[Tensor, Tensor]):
    images = warp(faces[0], np.array([[1.0, 0.0, -6.0], [0.0, 1.0, 0.0]]), (256, 256))
    first = keep(images)
    for _ in range(12):
        images.requires_grad_(True)
        (gradient,) = torch.autograd.grad(keep(images).sum(), images)
        step = 0.2 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        images = (images - step).clamp(0.0, 1.0).detach()
    assert bool((keep(images) < 0.7 * first).all())


def test_a_crop_without_a_face_is_refused(landmarker: YuNetLandmarker, faces: tuple[Tensor, Tensor]):
    with pytest.raises(InputError, match="crop 1, the detector saw none"):
        landmarker.focus(torch.stack([faces[0][0], torch.full((3, 256, 256), 0.5)]), faces[1])
    with pytest.raises(InputError, match="square crops"):
        landmarker.scan(torch.zeros(1, 3, 64, 32))


def test_differentiable_lpips_is_the_measured_lpips(perceptual: PerceptualDistance, faces: tuple[Tensor, Tensor]):
    first, second = faces[0].split(1)
    measured = perceptual.compute_map(_uint8(first[0]), _uint8(second[0]))
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 60:200, 80:170] = 1.0
    assert float(perceptual.compute_differentiable(first, second)) == pytest.approx(float(measured.mean()), rel=1e-4)
    inside = float(measured[60:200, 80:170].mean())
    assert float(perceptual.compute_differentiable(first, second, mask)) == pytest.approx(inside, rel=1e-4)
    assert float(perceptual.compute_differentiable(first, first)) == 0.0


def test_differentiable_lpips_has_a_finite_gradient_that_moves_pictures_apart(
    perceptual: PerceptualDistance, faces: tuple[Tensor, Tensor]
):
    start = (faces[0] + 0.02 * torch.randn_like(faces[0])).clamp(0.0, 1.0).requires_grad_(True)
    values = perceptual.compute_differentiable(start, faces[0])
    (gradient,) = torch.autograd.grad(values.sum(), start)
    assert float((gradient.abs().amax(dim=1) > 0).float().mean()) > 0.99
    step = 2.0 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert bool((perceptual.compute_differentiable((start + step).detach(), faces[0]) > values).all())
    black = torch.zeros(1, 3, 64, 64, requires_grad=True)
    perceptual.compute_differentiable(black, torch.ones(1, 3, 64, 64)).sum().backward()
    assert bool(torch.isfinite(black.grad).all())


def test_pictures_that_lpips_cannot_compare_are_refused(perceptual: PerceptualDistance):
    with pytest.raises(InputError, match="of one shape"):
        perceptual.compute_differentiable(torch.zeros(1, 3, 64, 64), torch.zeros(2, 3, 64, 64))
    with pytest.raises(InputError, match="at least 32 pixels"):
        perceptual.compute_differentiable(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    with pytest.raises(InputError, match="mask of shape"):
        perceptual.compute_differentiable(*[torch.zeros(1, 3, 64, 64)] * 2, torch.ones(1, 1, 8, 8))
