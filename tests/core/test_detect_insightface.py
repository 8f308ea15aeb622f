"""InsightFace files of the user: found, judged by their licence, and refused when unknown.

The files are never shipped. To run these tests, place scrfd_500m_bnkps.onnx and
w600k_mbf.onnx (non-commercial use) in models/insightface.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.faces import insightface_models
from faceprivacy_core.faces.detect import load_detector

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "insightface"
SAMPLE = ROOT / "docs" / "samples" / "two_people.jpg"


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    if not (FOLDER / "scrfd_500m_bnkps.onnx").is_file() or not (FOLDER / "w600k_mbf.onnx").is_file():
        pytest.skip(f"The InsightFace files (non-commercial, not shipped) are not in {FOLDER}.")
    return cv2.cvtColor(cv2.imread(str(SAMPLE)), cv2.COLOR_BGR2RGB)


def test_a_folder_without_the_files_is_named(tmp_path: Path):
    for load in (insightface_models.load_scrfd, insightface_models.load_arcface):
        for folder in (tmp_path, tmp_path / "missing"):
            with pytest.raises(ModelFileError, match="non-commercial"):
                load(folder)


def test_a_recogniser_that_was_never_measured_is_refused(tmp_path: Path):
    (tmp_path / "w600k_r50.onnx").write_bytes(b"some weights")
    with pytest.raises(ModelFileError, match="calibration"):
        insightface_models.load_arcface(tmp_path)


@pytest.mark.weights
def test_scrfd_and_the_default_detector_find_the_same_faces(people: np.ndarray):
    found = insightface_models.load_scrfd(FOLDER).detect(people)
    expected = load_detector().detect(people)
    assert len(found) == len(expected) == 2
    for one in found:
        error = min(np.abs(one.landmarks5 - other.landmarks5).max() / other.width for other in expected)
        assert error < 0.12
    with pytest.raises(InputError, match="uint8"):
        insightface_models.load_scrfd(FOLDER).detect(people.astype(np.float32))


@pytest.mark.weights
def test_arcface_tells_people_apart_shows_its_licence_and_has_gradients(people: np.ndarray):
    with torch.inference_mode():
        arcface = insightface_models.load_arcface(FOLDER)
    assert arcface.licence == "non-commercial (InsightFace model zoo)"
    faces = sorted(load_detector().detect(people), key=lambda face: face.bbox_xyxy[0])
    points = torch.from_numpy(np.stack([face.landmarks5 for face in faces]))
    images = torch.from_numpy(people).permute(2, 0, 1).float().div(255).expand(2, -1, -1, -1).clone().requires_grad_(True)
    embeddings = arcface.embed(images, points)
    similarity = embeddings[0] @ embeddings[1]
    assert similarity < arcface.thresholds[0.01]
    similarity.backward()
    assert float(images.grad.abs().sum()) > 0
