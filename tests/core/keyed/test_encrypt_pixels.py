"""Which pixels are replaced, and by what."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceprivacy_core.errors import InputError
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.layout import lay_out
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.regions import cut_crop, lay_crop, paste
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.pixels import to_tensor
from tests.core.keyed.scenes import (
    EXACT,
    HEIGHT,
    KEY,
    LEFT,
    MODEL,
    RIGHT,
    WIDTH,
    encrypt,
    faces_of,
    owned,
    reloaded,
    scene,
)
from tests.support.faces import synthetic_face


def test_latent_pastes_the_decoded_face_within_one_level():
    faces = faces_of(LEFT)
    mask = draw_masks(faces, MaskSettings())[:, None]
    layout = lay_out(KeyedPicture(scene()), faces, mask, MODEL, 64)
    layer = lay_crop(
        MODEL.decode(MODEL.encode(cut_crop(to_tensor(scene()), layout.regions[0]))), layout.regions[0], layout.claims[0]
    )
    expected = paste(scene(), layer, layout.claims[0], soft=False)
    recovered = decrypt_faces(reloaded(encrypt().picture), KEY, MODEL).pixels
    assert int(np.abs(recovered.astype(int) - expected).max()) <= 1


def test_a_mask_over_the_whole_picture_is_taken_where_the_crop_reaches_and_refused_where_not():
    everything, settings = torch.ones(1, 1, HEIGHT, WIDTH), EncryptSettings(EXACT, steps=4)
    near = faces_of(synthetic_face(WIDTH / 2, HEIGHT / 2, 260))
    picture = encrypt_faces(KeyedPicture(scene()), near, everything, KEY, MODEL, settings).picture
    assert owned(picture).all()
    assert np.array_equal(decrypt_faces(reloaded(picture), KEY).pixels, scene())
    with pytest.raises(InputError, match="outside every face crop and would stay unprotected"):
        encrypt_faces(KeyedPicture(scene()), faces_of(LEFT), everything, KEY, MODEL, settings)


def test_views_of_arrays_give_what_their_copies_give(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("faceprivacy_core.keyed.encrypt.new_nonce", lambda: b"n" * 16)
    views = scene(), np.asfortranarray(scene()), np.repeat(scene(), 2, axis=1)[:, ::2]
    results = [encrypt(onto=KeyedPicture(view)).picture for view in views]
    assert all(np.array_equal(result.pixels, results[0].pixels) for result in results)
    assert all(result.faces[0].payload == results[0].faces[0].payload for result in results)


@pytest.mark.parametrize("crop_size", [128, 512])
def test_what_the_mask_hides_is_replaced(crop_size: int):
    """Cells are coarse and their rim is soft: what lies inside the mask must not show through."""
    faces = faces_of(LEFT, RIGHT)
    mask = draw_masks(faces, MaskSettings(grow=2.0))[:, None]
    layout = lay_out(KeyedPicture(scene()), faces, mask, None, crop_size)
    replaced = np.zeros((HEIGHT, WIDTH))
    for claim in layout.claims:
        replaced[claim.rows, claim.columns] = np.maximum(replaced[claim.rows, claim.columns], claim.weights)
    hidden = mask[0, 0].numpy()
    assert (replaced[hidden > 0.5] == 1.0).mean() > 0.99
    assert (replaced[hidden > 0.5] > 0.0).all()
    assert (replaced[hidden > 0.99] == 1.0).all()
