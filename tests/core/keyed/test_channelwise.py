"""Every channel of a face's noise has its own rotation: what is read off badly in one does not blur the others."""

import numpy as np
import pytest
import torch
from torch import Tensor

from faceprivacy_core.errors import FormatError
from faceprivacy_core.keyed import transports
from faceprivacy_core.keyed.derivation import FaceKey
from faceprivacy_core.keyed.payloads import read_moments, write_moments
from faceprivacy_core.keyed.transports import decrypt_noise, encrypt_noise
from tests.support.keyed import RAW_KEY, MixtureKeyedModel, background_of, cosine, face_cells

STEPS, ITERATIONS = 50, 20
KEY, CELLS = FaceKey(RAW_KEY), face_cells()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> MixtureKeyedModel:
    monkeypatch.setattr(transports, "CHANNELWISE_FROM", 1)
    return MixtureKeyedModel()


def inside(latent: Tensor) -> Tensor:
    """Return the face's cells, a row for each channel."""
    return latent[CELLS.expand_as(latent) > 0].view(latent.shape[1], -1)


def test_the_face_comes_back_and_its_moments_through_the_payload(model: MixtureKeyedModel):
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    visible, moments = encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)
    assert len(moments) == face.shape[1]
    recovered = decrypt_noise(model, visible, background, KEY, read_moments(write_moments(moments)), STEPS, ITERATIONS)
    assert float((inside(recovered) - inside(face)).square().mean().sqrt()) <= 1e-6
    assert float((inside(visible) - inside(face)).square().mean().sqrt()) > 0.1


def test_a_channel_is_turned_in_itself_and_standardised():
    noise = torch.randn(2, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([[3.0], [0.2]])
    turns = transports._rotations(KEY, 2, 100)
    turned = [turn.apply(row / row.std()) for turn, row in zip(turns, noise.numpy(), strict=True)]
    assert abs(cosine(*turned)) < 0.5
    assert abs(cosine(turned[0], noise[0].numpy())) < 0.5
    for turn, row, source in zip(turns, turned, noise.numpy(), strict=True):
        np.testing.assert_allclose(turn.invert(row), source / source.std(), atol=1e-12)


def test_small_faces_and_decoys_have_one_rotation(model: MixtureKeyedModel, monkeypatch: pytest.MonkeyPatch):
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    assert len(encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS, channelwise=False)[1]) == 1
    monkeypatch.setattr(transports, "CHANNELWISE_FROM", int(CELLS.sum()) + 1)
    assert len(encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)[1]) == 1


def test_another_number_of_moments_is_refused(model: MixtureKeyedModel):
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    visible, moments = encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)
    with pytest.raises(FormatError):
        decrypt_noise(model, visible, background, KEY, (*moments, moments[0]), STEPS, ITERATIONS)
    for payload in (b"", bytes(15), bytes(24)):
        with pytest.raises(FormatError):
            read_moments(payload)
