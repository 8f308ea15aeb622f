"""Nothing of the keyed path assumes latents of 4 channels that are 8 times smaller than the crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.errors import FormatError, WrongKeyError
from faceprivacy_core.keyed.container import KeyedFaceRecord
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.models import KeyedModel
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.masks import MaskSettings, draw_masks
from tests.core.keyed.scenes import EXACT, IMAGE, KEY, LATENT, LEFT, OTHER, RIGHT, SIGNFLIP, faces_of, owned, reloaded, scene
from tests.support.keyed import MixtureKeyedModel

MODEL = MixtureKeyedModel(factor=16, kept=4, channels=32, variance=0.05, temperature=1000.0, side=128)


@pytest.mark.parametrize("mode", [EXACT, LATENT, IMAGE, SIGNFLIP], ids=lambda mode: mode.value)
def test_faces_come_back_with_32_channels_16_times_smaller(mode: RecoveryMode):
    faces = faces_of(LEFT, RIGHT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    settings = EncryptSettings(mode, steps=20, iterations=10)
    result = encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, MODEL, settings)
    picture = reloaded(result.picture)
    assert {header.cells.shape for header in picture.headers} == {(8, 8)}
    opened = decrypt_faces(picture, KEY, MODEL)
    outside = ~owned(picture)
    assert np.array_equal(picture.pixels[outside], scene()[outside])
    assert np.array_equal(opened.pixels[outside], scene()[outside])
    assert opened.opened == (0, 1)
    for report in result.reports:
        if mode is EXACT:
            assert np.array_equal(opened.pixels, scene())
        elif mode is not SIGNFLIP:
            assert report.recovered_psnr > report.cover_psnr + 10
    with pytest.raises(WrongKeyError):
        decrypt_faces(picture, OTHER, MODEL)


def test_what_the_mask_hides_is_replaced_with_larger_cells_too():
    faces = faces_of(LEFT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    picture = encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, MODEL, EncryptSettings(EXACT, steps=3)).picture
    hidden = mask[0, 0].numpy() > 0.5
    assert not (hidden & ~owned(picture)).any()


def test_files_of_version_1_have_cells_of_8_pixels():
    faces = faces_of(LEFT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    (header,) = encrypt_faces(KeyedPicture(scene()), faces, mask, KEY, MODEL, EncryptSettings(EXACT, steps=3)).picture.headers
    old = {name: getattr(header, name) for name in header.__dataclass_fields__} | {"version": 1, "signer": b""}
    picture = KeyedPicture(scene(), (KeyedFaceRecord(type(header)(**old), bytes(100)),))
    with pytest.raises(FormatError):
        _ = picture.claims


def test_the_factor_of_the_built_in_model_is_that_of_its_latents():
    model = KeyedModel(load_face_model())
    latent = model.encode(torch.zeros(1, 3, model.crop_size, model.crop_size))
    assert latent.shape[-1] == latent.shape[-2] == model.crop_size // model.factor
