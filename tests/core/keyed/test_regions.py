"""Which pixels a keyed face takes."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from faceprivacy_core.align import invert_affine
from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.keyed.fill import fill_from_surroundings
from faceprivacy_core.keyed.regions import (
    Region,
    choose_cells,
    claim_pixels,
    claimed_pixels,
    cut_crop,
    lay_crop,
    paste,
)

HEIGHT, WIDTH = 120, 150
FROZEN_PIXELS = "24788b617a928476"


def region(x: float = 75, y: float = 60, scale: float = 1.0, angle_deg: float = 0.0, cells: np.ndarray | None = None) -> Region:
    """Return a region whose crop of 64 pixels is centred at (x, y)."""
    angle = np.deg2rad(angle_deg)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([x, y]) - turn @ [31.5, 31.5]
    if cells is None:
        cells = np.zeros((8, 8), bool)
        cells[2:6, 2:6] = True
    return Region(64, np.column_stack([turn, shift]), cells)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_upright_cells_claim_their_own_pixels():
    (claim,) = claim_pixels([region()], HEIGHT, WIDTH)
    owned = claimed_pixels([claim], HEIGHT, WIDTH)
    left, top = 75 - 31.5 + 15.5, 60 - 31.5 + 15.5  # outer edge of the cells
    inside = np.zeros_like(owned)
    inside[int(np.ceil(top)) : int(top + 32), int(np.ceil(left)) : int(left + 32)] = True
    assert not (owned & ~inside).any()
    assert owned.sum() > 0.9 * inside.sum()
    assert claim.weights.max() == 1.0


@pytest.mark.parametrize("angle_deg", [0.0, 17.0, 90.0, 200.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.2])
def test_weights_are_those_of_the_cells_seen_from_the_crop(scale: float, angle_deg: float):
    """The rectangle of a claim holds every pixel whose weight is above zero, and none is lost."""
    here = region(70, 55, scale, angle_deg)
    (claim,) = claim_pixels([here], HEIGHT, WIDTH)
    owned = claimed_pixels([claim], HEIGHT, WIDTH)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    inverse = invert_affine(here.crop_to_image)
    u, v = (row[0] * x + row[1] * y + row[2] + 0.5 for row in inverse)
    deep = (np.abs(u - 32) < 12) & (np.abs(v - 32) < 12)
    outside = (np.abs(u - 32) > 16.01) | (np.abs(v - 32) > 16.01)
    assert owned[deep].all()
    assert not owned[outside].any()
    np.testing.assert_allclose(here.image_to_crop, inverse, rtol=1e-12, atol=1e-12)
    assert here.scale == pytest.approx(scale)


def test_two_faces_never_share_a_pixel_and_the_earlier_keeps_it():
    first, second = claim_pixels([region(60, 60), region(78, 60)], HEIGHT, WIDTH)
    alone = claim_pixels([region(60, 60)], HEIGHT, WIDTH)[0]
    ours, theirs = claimed_pixels([first], HEIGHT, WIDTH), claimed_pixels([second], HEIGHT, WIDTH)
    assert not (ours & theirs).any()
    assert np.array_equal(ours, claimed_pixels([alone], HEIGHT, WIDTH))
    with pytest.raises(InputError, match="pixels of its own"):
        claim_pixels([region(60, 60), region(60, 60)], HEIGHT, WIDTH)


@pytest.mark.parametrize("place", [(5, 60), (75, 2), (148, 118)])
def test_a_face_at_the_border_claims_what_is_in_the_picture(place: tuple[float, float]):
    (claim,) = claim_pixels([region(*place)], HEIGHT, WIDTH)
    assert claim.owned.any()
    assert 0 <= claim.rows.start < claim.rows.stop <= HEIGHT
    assert 0 <= claim.columns.start < claim.columns.stop <= WIDTH
    with pytest.raises(InputError, match="pixels of its own"):
        claim_pixels([region(-300, 60)], HEIGHT, WIDTH)


def test_one_cell_is_enough():
    cells = np.zeros((8, 8), bool)
    cells[4, 4] = True
    (claim,) = claim_pixels([region(cells=cells)], HEIGHT, WIDTH)
    assert 0 < claim.owned.sum() <= 64


def test_paste_touches_the_claim_alone():
    (claim,) = claim_pixels([region(angle_deg=10)], HEIGHT, WIDTH)
    picture, layer = noise(), torch.rand(3, *claim.weights.shape)
    before = picture.copy()
    for soft in (True, False):
        pasted = paste(picture, layer, claim, soft=soft)
        outside = ~claimed_pixels([claim], HEIGHT, WIDTH)
        assert np.array_equal(pasted[outside], picture[outside])
    assert np.array_equal(picture, before)
    inner = claim.weights == 1.0
    window = pasted[claim.rows, claim.columns]
    np.testing.assert_array_equal(window[inner], np.rint(255 * layer.double().numpy()).transpose(1, 2, 0)[inner])


def test_a_crop_laid_back_is_the_picture():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = torch.from_numpy(np.stack([x / WIDTH, y / HEIGHT, 0.5 + 0 * x])).float()[None]
    here = region(angle_deg=25, scale=1.2)
    (claim,) = claim_pixels([here], HEIGHT, WIDTH)
    layer = lay_crop(cut_crop(smooth, here), here, claim)
    difference = (layer - smooth[0, :, claim.rows, claim.columns]).abs()
    assert float(difference[:, torch.from_numpy(claim.owned)].max()) < 1e-4


def test_cells_follow_the_mask():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:40, 16:34] = 0.4
    cells = choose_cells(mask, 8)
    assert cells[2:5, 2:4].all()
    assert cells.sum() == 6  # a quarter of the fifth column is too little
    with pytest.raises(NoFaceError, match="Widen"):
        choose_cells(torch.zeros(1, 1, 64, 64), 8)


def test_crops_that_cover_the_picture_too_often_are_refused():
    everywhere = region(scale=4.0, cells=np.ones((8, 8), bool))
    with pytest.raises(InputError, match="at most 16 times"):
        claim_pixels([region(), *[everywhere] * 16], HEIGHT, WIDTH)
    assert len(claim_pixels([region(20 + 6.5 * number, scale=0.05) for number in range(17)], HEIGHT, WIDTH)) == 17


@pytest.mark.parametrize("shape", [(1, 1), (2, 4), (5, 5), (8, 4), (16, 16), (64, 64)])
def test_cells_that_are_none_of_a_latent_are_refused(shape: tuple[int, int]):
    with pytest.raises(InputError, match=f"64, got {shape[0]} x {shape[1]} cells"):
        replace(region(), cells=np.ones(shape, bool))


@pytest.mark.parametrize("factor", [8, 16])
def test_larger_cells_claim_what_they_cover(factor: int):
    side = 128 // factor
    cells = np.zeros((side, side), bool)
    cells[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
    here = Region(128, np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 3.0]]), cells)
    assert here.cell == factor
    (claim,) = claim_pixels([here], HEIGHT, WIDTH)
    covered = np.kron(cells, np.ones((factor, factor), bool))
    owned = claimed_pixels([claim], HEIGHT, WIDTH)[3:, 5:133]
    assert not (owned & ~covered[: len(owned)]).any()
    assert owned.sum() > 0.9 * covered[: len(owned)].sum()
    mask = torch.from_numpy(covered).float()[None, None]
    assert np.array_equal(choose_cells(mask, factor), cells)


def test_the_fill_knows_nothing_of_what_it_hides():
    picture, other = torch.rand(1, 3, 37, 50), torch.rand(1, 3, 37, 50)
    hidden = torch.zeros(1, 1, 37, 50)
    hidden[..., 10:30, 12:33] = 1.0
    other = torch.where(hidden > 0, other, picture)
    filled = fill_from_surroundings(picture, hidden)
    assert torch.equal(filled, fill_from_surroundings(other, hidden))
    assert torch.allclose(filled[hidden.expand_as(filled) == 0], picture[hidden.expand_as(picture) == 0])


def test_the_fill_continues_what_is_around():
    flat = torch.full((1, 3, 40, 41), 0.7)
    hidden = torch.zeros(1, 1, 40, 41)
    hidden[..., 5:35, 3:39] = 1.0
    assert torch.allclose(fill_from_surroundings(flat, hidden), flat, atol=1e-5)
    ramp = torch.linspace(0, 1, 41).expand(1, 3, 40, 41)
    assert float((fill_from_surroundings(ramp, hidden) - ramp).abs().mean()) < 0.15
    assert torch.equal(fill_from_surroundings(flat, torch.ones(1, 1, 40, 41)), torch.full_like(flat, 0.5))


def test_the_pixels_of_a_header_are_frozen():
    """They are part of the file format: other ones would open old pictures wrongly, without an error."""
    (claim,) = claim_pixels([region(70.25, 55.5, 1.7, 17.0)], HEIGHT, WIDTH)
    packed = (
        np.packbits(claimed_pixels([claim], HEIGHT, WIDTH)).tobytes() + np.rint(claim.weights * 1e6).astype("<i4").tobytes()
    )
    assert hashlib.sha256(packed).hexdigest()[:16] == FROZEN_PIXELS
