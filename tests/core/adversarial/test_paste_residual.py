"""Check 13: only the change is pasted, so no change is the identity."""

import pytest
import torch

from faceprivacy_core.errors import InputError
from faceprivacy_core.images import crop_faces, cut, paste_residual
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.types import FaceCrops, Faces
from tests.support.faces import one_face, synthetic_face


def setting(faces: Faces) -> tuple[torch.Tensor, FaceCrops, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(faces.num_images, 3, faces.height, faces.width, generator=generator)
    return images, crop_faces(images, faces, 128)[1], draw_masks(faces, MaskSettings())[:, None]


def test_no_change_is_the_identity_bit_for_bit():
    images, crops, mask = setting(one_face(angle_deg=20))
    assert torch.equal(paste_residual(images, torch.zeros(1, 3, 64, 64), crops, mask), images)


def test_outside_the_mask_every_bit_stays_and_inside_the_change_is_added():
    images, crops, mask = setting(one_face(angle_deg=-15))
    before, mask_before = images.clone(), mask.clone()
    pasted = paste_residual(images, torch.full((1, 3, 64, 64), 0.1), crops, mask)
    outside = (mask == 0).expand_as(images)
    assert torch.equal(pasted[outside], images[outside])
    inside = (mask == 1).expand_as(images) & (images < 0.85)
    torch.testing.assert_close(pasted[inside], images[inside] + 0.1)
    assert float(pasted.max()) <= 1.0
    assert torch.equal(images, before)
    assert torch.equal(mask, mask_before)


def test_a_change_lands_where_its_crop_was_cut():
    images, crops, mask = setting(one_face(angle_deg=30))
    images = torch.full_like(images, 0.5)
    ramp = torch.linspace(-0.2, 0.2, 128).expand(1, 3, 128, 128)
    back = cut(paste_residual(images, ramp, crops, mask), crops) - 0.5
    inside = (cut(mask, crops) > 0.999).expand_as(back)
    torch.testing.assert_close(back[inside], ramp[inside], rtol=0, atol=5e-3)


def test_each_face_of_a_picture_gets_its_own_change():
    faces = Faces((synthetic_face(70, 100, 90), synthetic_face(230, 100, 90)), 1, 200, 300)
    images, crops, mask = setting(faces)
    images = torch.full_like(images, 0.5)
    changes = torch.stack([torch.full((3, 64, 64), 0.1), torch.full((3, 64, 64), -0.1)])
    pasted = paste_residual(images, changes, crops, mask)
    assert float(pasted[0, 0, 100, 70]) == pytest.approx(0.6)
    assert float(pasted[0, 0, 100, 230]) == pytest.approx(0.4)


def test_what_does_not_fit_is_refused():
    images, crops, mask = setting(one_face())
    with pytest.raises(InputError, match="1 square changes"):
        paste_residual(images, torch.zeros(2, 3, 64, 64), crops, mask)
    with pytest.raises(InputError, match="1 square changes"):
        paste_residual(images, torch.zeros(1, 3, 64, 32), crops, mask)
    with pytest.raises(InputError, match="mask for every picture"):
        paste_residual(images, torch.zeros(1, 3, 64, 64), crops, mask[..., 1:])
    with pytest.raises(InputError, match="finite crops"):
        paste_residual(images, torch.full((1, 3, 64, 64), torch.nan), crops, mask)
    with pytest.raises(InputError, match="outside every face crop"):
        paste_residual(images, torch.zeros(1, 3, 64, 64), crops, torch.ones_like(mask))
