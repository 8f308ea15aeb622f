"""Blur, mosaic and grey: what is hidden is gone, and the rest is untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceprivacy_core.masks import MaskSettings, Region
from faceprivacy_core.obscure import GREY, MOSAIC_CELLS, Obscuring, obscure_faces
from faceprivacy_core.pixels import as_bytes, to_pixels, to_tensor
from faceprivacy_core.types import Faces
from tests.support.faces import synthetic_face
from tests.support.pictures import HEIGHT, WIDTH, faces_in

every_way = pytest.mark.parametrize("how", Obscuring)


def noisy(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


@every_way
@pytest.mark.parametrize("region", Region)
def test_nothing_outside_the_mask_changes_and_the_given_picture_stays(how: Obscuring, region: Region):
    given = noisy()
    result, mask = obscure_faces(given, faces_in(1), how, MaskSettings(region))
    assert torch.equal(given, noisy())
    outside = (mask == 0).expand_as(result)
    assert torch.equal(result[outside], given[outside])
    assert set(mask.unique().tolist()) == {0.0, 1.0}


@every_way
def test_the_mask_reaches_the_outline_whatever_the_feather_is(how: Obscuring):
    soft, hard = (obscure_faces(noisy(), faces_in(1), how, MaskSettings(feather=feather))[1] for feather in (12.0, 0.0))
    assert bool((soft >= hard).all())


@every_way
def test_a_batch_equals_its_pictures_alone_and_no_face_changes_nothing(how: Obscuring):
    batch, _ = obscure_faces(noisy(2), faces_in(2), how, MaskSettings())
    for index in range(2):
        alone, _ = obscure_faces(noisy(2)[index : index + 1], faces_in(1, first=index), how, MaskSettings())
        assert torch.equal(batch[index], alone[0])
    untouched, mask = obscure_faces(noisy(), Faces((), 1, HEIGHT, WIDTH), how, MaskSettings())
    assert torch.equal(untouched, noisy())
    assert float(mask.max()) == 0.0


@pytest.mark.parametrize("how", Obscuring)
def test_bytes_become_what_values_become_when_they_are_rounded(how: Obscuring):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    given = as_bytes(pixels)
    hidden, mask = obscure_faces(given, faces_in(1), how, MaskSettings())
    expected, same = obscure_faces(to_tensor(pixels), faces_in(1), how, MaskSettings())
    assert hidden.dtype == torch.uint8
    assert np.array_equal(to_pixels(hidden), to_pixels(expected))
    assert torch.equal(mask, same)
    assert np.array_equal(to_pixels(given), pixels)


def test_grey_keeps_nothing_and_a_mosaic_one_colour_a_cell():
    solid, mask = obscure_faces(noisy(), faces_in(1), Obscuring.SOLID, MaskSettings())
    assert bool((solid[(mask > 0).expand_as(solid)] == GREY).all())
    mosaic, mask = obscure_faces(noisy(), faces_in(1), Obscuring.MOSAIC, MaskSettings())
    colours = torch.unique(mosaic[0][:, mask[0, 0] > 0], dim=1).shape[1]
    assert colours <= (3 * MOSAIC_CELLS) ** 2


def test_a_blur_leaves_little_of_fine_detail():
    blurred, mask = obscure_faces(noisy(), faces_in(1), Obscuring.BLUR, MaskSettings())
    inside = (mask > 0).expand_as(blurred)
    assert float(blurred[inside].std()) < 0.1 * float(noisy()[inside].std())


@every_way
def test_a_face_that_leaves_the_picture_is_hidden_up_to_its_edge(how: Obscuring):
    face = synthetic_face(4, 4, 60)
    result, mask = obscure_faces(noisy(), Faces((face,), 1, HEIGHT, WIDTH), how, MaskSettings())
    assert float(mask[0, 0, 0, 0]) == 1.0
    assert bool(torch.isfinite(result).all())
