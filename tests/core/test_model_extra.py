"""Enlarging what was drawn: for large faces alone, one at a time, and never with another model's weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder
from faceprivacy_core.builtin.detail import DetailConfig, DetailHead, twice
from faceprivacy_core.builtin.extra import EXTRA_FILE, EXTRA_FORMAT, load_extra
from faceprivacy_core.builtin.model import DEFAULT_FILE, FaceModel, load_face_model
from faceprivacy_core.builtin.traits import WOMAN
from faceprivacy_core.diffusion.model import Capability, enlarger
from faceprivacy_core.errors import ModelFileError, UnsupportedModelError
from faceprivacy_core.fingerprints import fingerprint, named_weights
from faceprivacy_core.images import ENLARGE_FROM, crop_faces, magnification, paste_faces
from faceprivacy_core.texture import laplacian
from faceprivacy_core.types import Face, Faces

SMALL = AutoencoderConfig(32, 4, 2, (16, 24, 32), (1, 1, 1), (8, 8, 16), (64, 64, 64, 64, 64), 16)
SHAPE = {"channels": 64, "side": 32, "widths": [16, 16], "hidden": 8}


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


@pytest.fixture(scope="module")
def donors(model: FaceModel) -> torch.Tensor:
    """Three faces of nobody as crops."""
    with torch.no_grad():
        return model.decode(model.donors.latents[:3]).clamp(0.0, 1.0)


def small_autoencoder() -> FaceAutoencoder:
    torch.manual_seed(0)
    return FaceAutoencoder(SMALL).eval()


def write(path: Path, autoencoder: FaceAutoencoder, **changes: str) -> None:
    head = DetailHead(DetailConfig(64, 32, (16, 16), 8))
    header = {"detail": SHAPE, "autoencoder": fingerprint(named_weights(autoencoder))}
    metadata = {"format": EXTRA_FORMAT, "version": "1", "config": json.dumps(header)} | changes
    save_file({f"detail.{name}": value.half() for name, value in head.state_dict().items()}, path, metadata)


def test_an_untrained_head_resamples():
    head = DetailHead(DetailConfig(64, 32, (16, 16), 8))
    crops, features = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 64, 16, 16)
    torch.testing.assert_close(head(crops, features, torch.randn(2, 512)), twice(crops), rtol=0, atol=0)


def test_the_shipped_head_adds_fine_detail_and_nothing_else(model: FaceModel, donors: torch.Tensor):
    enlarged = model.enlarge(donors)
    assert enlarged.shape == (3, 3, 512, 512)
    assert (enlarged.clamp(0, 1) - twice(donors)).abs().mean() < 0.02
    small = torch.nn.functional.avg_pool2d(enlarged, 2)
    assert (small - donors).abs().mean() < 0.012
    face = np.s_[:, :, 128:384, 128:384]
    assert (laplacian(enlarged[face]).var((1, 2, 3)) > 1.5 * laplacian(twice(donors)[face]).var((1, 2, 3))).all()


def test_a_batch_equals_its_crops_alone(model: FaceModel, donors: torch.Tensor):
    torch.testing.assert_close(model.enlarge(donors)[1:2], model.enlarge(donors[1:2]), rtol=0, atol=2e-5)


def test_only_faces_that_are_large_in_the_picture_are_enlarged():
    def face(left: float, top: float, scale: float) -> Face:
        points = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.38, 0.72], [0.62, 0.72]]) * scale + (left, top)
        return Face(0, (left, top, left + scale, top + scale), points, 0.9)

    faces = Faces((face(20, 20, 25), face(150, 60, 300)), 1, 480, 640)
    images = torch.rand(1, 3, 480, 640, generator=torch.Generator().manual_seed(0))
    results, crops = crop_faces(images, faces, 64)
    small, large = (magnification(crop) for crop in crops.items)
    assert small < ENLARGE_FROM < large
    asked: list[torch.Size] = []

    def enlarge(results: torch.Tensor) -> torch.Tensor:
        asked.append(results.shape)
        return twice(results)

    mask = torch.zeros(1, 1, 480, 640)
    mask[..., 150:300, 230:380] = 1.0
    pasted = paste_faces(images, results, crops, mask, enlarge=enlarge)
    assert asked == [torch.Size((1, 3, 64, 64))]
    assert torch.equal(pasted[..., :150, :], images[..., :150, :])
    assert not torch.equal(pasted, images)


def test_without_a_file_nothing_enlarges(tmp_path: Path):
    (tmp_path / "face_model.safetensors").write_bytes(DEFAULT_FILE.read_bytes())
    alone = load_face_model(tmp_path / "face_model.safetensors")
    assert Capability.DETAIL not in alone.capabilities
    assert enlarger(alone) is None
    with pytest.raises(UnsupportedModelError, match="draws a crop at twice its side"):
        alone.enlarge(torch.zeros(1, 3, 256, 256))


def test_the_shipped_model_has_its_detail_and_reads_sex(model: FaceModel):
    assert enlarger(model) is not None
    assert model.extra.traits.keys() == {WOMAN}
    assert model.donors.woman is not None
    right = (model.donors.woman.read(model.donors.latents) > 0.5) == model.donors.women
    assert right[: -len(model.extra.donors or ())].float().mean() > 0.95


def test_the_bank_has_heads_that_are_turned_either_way(model: FaceModel):
    more = model.extra.donors
    assert more is not None
    assert len(model.donors) == len(more) + 256
    eyes, nose = model.donors.landmarks5[:, :2], model.donors.landmarks5[:, 2, 0]
    turn = (nose - eyes[..., 0].mean(1)) / (eyes[:, 1, 0] - eyes[:, 0, 0])
    for who in (model.donors.women, ~model.donors.women):
        assert min(int((turn[who] > 0.2).sum()), int((turn[who] < -0.2).sum())) >= 15
    torch.testing.assert_close(more.vectors["sface"].norm(dim=1), torch.ones(len(more)), rtol=0, atol=2e-3)
    mirrored = more.landmarks5[1::2, [1, 0, 2, 4, 3]] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    assert (mirrored - more.landmarks5[::2]).norm(dim=-1).mean() < 0.04  # a detector does not see exactly the same


def test_a_file_of_another_model_is_refused(tmp_path: Path):
    write(tmp_path / EXTRA_FILE, small_autoencoder())
    assert load_extra(tmp_path / EXTRA_FILE, small_autoencoder()).detail is not None
    other = small_autoencoder()
    with torch.no_grad():
        other.latent_mean += 0.1
    with pytest.raises(ModelFileError, match="that of another"):
        load_extra(tmp_path / EXTRA_FILE, other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "else"}, "Expected a faceprivacy-face-model-extra file"),
        ({"version": "9"}, "version '9'"),
        ({"config": "{"}, "damaged"),
        ({"config": json.dumps({"detail": SHAPE | {"hidden": 9}, "autoencoder": ""})}, "damaged"),
        ({"config": json.dumps({"detail": SHAPE | {"colour": 9}, "autoencoder": ""})}, "damaged"),
        ({"config": json.dumps({"detail": SHAPE})}, "damaged"),
        ({"config": json.dumps({"detail": SHAPE, "traits": ["age"], "autoencoder": ""})}, "damaged"),
        ({"config": json.dumps({"detail": SHAPE, "donors": {"sex": "w", "age": "a"}, "autoencoder": ""})}, "bank of donors"),
        ({"config": "[]"}, "damaged"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, changes: dict[str, str], said: str):
    write(tmp_path / EXTRA_FILE, small_autoencoder(), **changes)
    with pytest.raises(ModelFileError, match=said):
        load_extra(tmp_path / EXTRA_FILE, small_autoencoder())


def test_a_file_cut_short_is_refused(tmp_path: Path):
    write(tmp_path / EXTRA_FILE, small_autoencoder())
    content = (tmp_path / EXTRA_FILE).read_bytes()
    (tmp_path / EXTRA_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        load_extra(tmp_path / EXTRA_FILE, small_autoencoder())
