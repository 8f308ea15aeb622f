"""Recognisers: laws of the wrapper without weights, parity and gradients with them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from faceprivacy_core import weights
from faceprivacy_core.align import ARC112_TEMPLATE
from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.faces import recognizers
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.networks.inception_resnet_v1 import InceptionResnetV1
from faceprivacy_core.faces.networks.mobilefacenet import MobileFaceNet
from faceprivacy_core.faces.networks.mobilefacenet_relu import MobileFaceNetRelu
from faceprivacy_core.faces.recognizers import ARC112, RecognizerSpec, TorchRecognizer
from faceprivacy_core.protocols import FaceRecognizer

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "two_people.jpg"


class _Pool(nn.Module):
    """Averages a crop to 4 x 4: an embedding a person can compute."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


def _toy(*, is_bgr: bool = False) -> TorchRecognizer:
    spec = RecognizerSpec("toy", "toy", ARC112, (127.5,) * 3, (128.0,) * 3, is_bgr=is_bgr)
    return TorchRecognizer(spec, _Pool(), "none", {0.01: 0.3, 0.001: 0.4})


def _points(scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy((ARC112_TEMPLATE + 0.5) * scale - 0.5 + shift)[None]


@pytest.fixture(scope="module")
def loaded() -> dict[str, TorchRecognizer]:
    try:
        with torch.inference_mode():  # as inside a host
            return {name: recognizers.load_recognizer(name) for name in recognizers.RECOGNIZER_NAMES}
    except ModelFileError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def people() -> tuple[torch.Tensor, torch.Tensor]:
    picture = cv2.cvtColor(cv2.imread(str(SAMPLE)), cv2.COLOR_BGR2RGB)
    faces = sorted(load_detector().detect(picture), key=lambda face: face.bbox_xyxy[0])
    landmarks = torch.from_numpy(np.stack([face.landmarks5 for face in faces]))
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return image.expand(len(faces), -1, -1, -1), landmarks


def test_identity_alignment_returns_the_crop_itself():
    crop = torch.rand(1, 3, 112, 112)
    torch.testing.assert_close(_toy().align(crop, _points()), crop, rtol=0, atol=1e-4)


def test_colour_order_and_scaling_reach_the_network():
    red = torch.zeros(1, 3, 112, 112)
    red[:, 0] = 1.0
    for is_bgr, channel in ((False, 0), (True, 2)):
        vector = _toy(is_bgr=is_bgr).embed(red, _points())[0].view(3, 16)
        assert vector[channel].mean() > 0 > vector[1].mean()


def test_embedding_follows_a_face_that_is_shifted_or_enlarged():
    smooth = nn.functional.interpolate(torch.rand(1, 3, 7, 7), (112, 112), mode="bicubic").clamp(0, 1)
    toy = _toy()
    reference = toy.embed(smooth, _points())
    canvas = torch.zeros(1, 3, 300, 260)
    canvas[:, :, 40:152, 40:152] = smooth
    large = nn.functional.interpolate(smooth, (448, 448), mode="bilinear")
    for images, points in ((canvas, _points(shift=40.0)), (large, _points(scale=4.0))):
        assert float((toy.embed(images, points) @ reference.T).item()) > 0.995


def test_batch_equals_loop_rows_have_length_1_and_inputs_stay():
    images, points = (
        torch.rand(3, 3, 90, 120),
        _points(0.8).expand(3, -1, -1) + torch.tensor([[[0.0]], [[4.0]], [[9.0]]]),
    )
    before = images.clone()
    toy = _toy()
    together = toy.embed(images, points)
    alone = torch.cat([toy.embed(image[None], one[None]) for image, one in zip(images, points, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3), rtol=0, atol=1e-5)
    assert torch.equal(images, before)
    assert isinstance(toy, FaceRecognizer)


def test_a_recogniser_stays_frozen_and_in_evaluation_mode():
    toy = TorchRecognizer(_toy().spec, nn.Sequential(_Pool(), nn.Dropout(), nn.Linear(48, 4)), "none", {})
    toy.train()
    assert not any(module.training for module in toy.modules())
    assert not any(parameter.requires_grad for parameter in toy.parameters())


@pytest.mark.parametrize(
    ("images", "points"),
    [
        (torch.rand(3, 112, 112), _points()),
        (torch.rand(1, 1, 112, 112), _points()),
        (255 * torch.rand(1, 3, 112, 112), _points()),
        (torch.rand(2, 3, 112, 112), _points()),
        (torch.full((1, 3, 112, 112), float("nan")), _points()),
    ],
)
def test_wrong_pictures_and_landmarks_are_refused(images: torch.Tensor, points: torch.Tensor):
    with pytest.raises(InputError, match="Expected"):
        _toy().embed(images, points)


def test_names_are_checked_and_ensembles_need_different_ones():
    with pytest.raises(InputError, match="sface"):
        recognizers.load_recognizer("nobody")
    for names in ([], ["sface", "sface"]):
        with pytest.raises(InputError, match="different recognisers"):
            recognizers.load_ensemble(names)


def test_defaults_are_disjoint_and_a_held_out_family_is_unseen():
    surrogates, held_out = recognizers.DEFAULT_SURROGATES, recognizers.DEFAULT_HELD_OUT
    assert not set(surrogates) & set(held_out)
    assert set(surrogates) | set(held_out) == set(recognizers.RECOGNIZER_NAMES)
    families = {name: recognizers.find_spec(name).family for name in recognizers.RECOGNIZER_NAMES}
    assert {families[name] for name in held_out} - {families[name] for name in surrogates}
    assert all(weights.entry(name).commercial_use for name in surrogates)


@pytest.mark.parametrize(
    ("network", "side", "dim"),
    [(MobileFaceNet, 112, 512), (MobileFaceNetRelu, 112, 128), (InceptionResnetV1, 160, 512)],
)
def test_architectures_map_crops_to_vectors(network: type[nn.Module], side: int, dim: int):
    with torch.no_grad():
        assert network().eval()(torch.rand(1, 3, side, side)).shape == (1, dim)


@pytest.mark.weights
@pytest.mark.parametrize("name", recognizers.RECOGNIZER_NAMES)
def test_gradients_reach_the_whole_face_of_a_whole_picture(
    name: str, loaded: dict[str, TorchRecognizer], people: tuple[torch.Tensor, torch.Tensor]
):
    images, landmarks = people[0][:1].clone().requires_grad_(True), people[1][:1]
    recognizer = loaded[name]
    reference = recognizer.embed(people[0][1:], people[1][1:])
    (recognizer.embed(images, landmarks) @ reference.T).sum().backward()
    left, right = landmarks[0, 0].round().int().tolist(), landmarks[0, 1].round().int().tolist()
    between = images.grad[0, :, min(left[1], right[1]) : int(landmarks[0, 3:, 1].max()), left[0] : right[0]]
    assert torch.isfinite(images.grad).all()
    assert (between.abs().sum(dim=0) > 0).float().mean() > 0.99


@pytest.mark.weights
@pytest.mark.parametrize("name", recognizers.RECOGNIZER_NAMES)
def test_people_are_told_apart_and_known_again_when_the_photo_is_worse(
    name: str, loaded: dict[str, TorchRecognizer], people: tuple[torch.Tensor, torch.Tensor]
):
    images, landmarks = people
    recognizer = loaded[name]
    worse = (nn.functional.avg_pool2d(images, 2) * 0.8 + 0.05).clamp(0, 1)
    with torch.no_grad():
        similarity = recognizer.embed(images, landmarks) @ recognizer.embed(worse, (landmarks + 0.5) / 2 - 0.5).T
    assert similarity.diagonal().min() > recognizer.thresholds[0.001]
    assert max(similarity[0, 1], similarity[1, 0]) < recognizer.thresholds[0.01]


@pytest.mark.weights
def test_sface_in_torch_equals_onnxruntime(loaded: dict[str, TorchRecognizer], people: tuple[torch.Tensor, torch.Tensor]):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(weights.find("sface")), options, providers=["CPUExecutionProvider"])
    sface = loaded["sface"]
    aligned = sface.align(*people)
    outputs = [session.run(None, {session.get_inputs()[0].name: 255 * one[None].numpy()})[0][0] for one in aligned]
    expected = np.stack([output / np.linalg.norm(output) for output in outputs])
    np.testing.assert_allclose(sface.embed_aligned(aligned).numpy(), expected, rtol=0, atol=1e-4)
