"""Outlines: hair and beard stay out of a mask, lips and moles are part of the face, and in doubt the mask stays as it is."""

import torch

from faceprivacy_core.images import crop_faces, cut, lay_masks
from faceprivacy_core.masks import MaskSettings, Region, draw_masks
from faceprivacy_core.outlines import GRID, find_covered, fit_masks, fit_to_skin, leave_out_covered, outline_misfit, reach_in
from tests.support.pictures import faces_in, pictures

SIDE = 256
SKIN, HAIR = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.12, 0.1, 0.09])
POINTS = torch.tensor([[96.0, 118], [160, 118], [128, 157], [102, 187], [154, 187]])[None]
AXIS = (torch.arange(SIDE) + 0.5) / SIDE


def disc(x: float, y: float, radius_x: float, radius_y: float) -> torch.Tensor:
    return (((AXIS[None, :] - x) / radius_x).square() + ((AXIS[:, None] - y) / radius_y).square() <= 1.0).float()[None, None]


def paint(ground: torch.Tensor, where: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    return where * colour.view(1, 3, 1, 1) + (1.0 - where) * ground


MASK = disc(0.5, 0.56, 0.3, 0.34)
BARE = paint(torch.full((1, 3, SIDE, SIDE), 0.3), disc(0.5, 0.55, 0.36, 0.42), SKIN)
BEARD, FRINGE = disc(0.5, 0.85, 0.3, 0.19), disc(0.5, 0.2, 0.3, 0.12)
BEARDED, FRINGED = paint(BARE, BEARD, HAIR), paint(BARE, FRINGE, HAIR)
DEEP = disc(0.5, 0.56, 0.25, 0.29)


def test_a_bare_face_keeps_its_mask_but_for_the_softened_rim():
    fitted = fit_to_skin(BARE, POINTS, MASK)
    assert bool((fitted <= MASK).all())
    torch.testing.assert_close(fitted * DEEP, MASK * DEEP, rtol=0, atol=0.02)


def test_hair_and_beard_that_reach_in_are_left_out_and_the_eyes_stay_in():
    for picture, covered in ((BEARDED, BEARD), (FRINGED, FRINGE)):
        fitted = fit_to_skin(picture, POINTS, MASK)
        assert bool((fitted <= MASK).all())
        assert float((fitted * covered * MASK).sum()) < 0.02 * float((covered * MASK).sum())
        assert float((fitted * disc(0.5, 0.46, 0.2, 0.04)).sum()) > 0.95 * float(disc(0.5, 0.46, 0.2, 0.04).sum())


def test_hair_that_comes_in_with_another_face_stays_out_and_its_skin_comes_in():
    other = BARE * torch.tensor([0.9, 1.0, 1.0]).view(1, 3, 1, 1)
    both = leave_out_covered(torch.cat([other, paint(other, FRINGE, HAIR)]), BARE, POINTS, MASK)
    for result, covered in zip(both.split(1), (torch.zeros_like(FRINGE), FRINGE), strict=True):
        seen = MASK * result + (1.0 - MASK) * BARE
        inside = disc(0.5, 0.6, 0.2, 0.2)
        torch.testing.assert_close(seen * inside, other * inside, rtol=0, atol=1e-3)
        torch.testing.assert_close(seen * covered, BARE * covered, rtol=0, atol=0.02)
    torch.testing.assert_close(both[:1], leave_out_covered(other, BARE, POINTS, MASK), rtol=0, atol=1e-6)
    same = leave_out_covered(FRINGED, FRINGED, POINTS, MASK)
    torch.testing.assert_close(same, FRINGED, rtol=0, atol=1e-6)


def test_the_persons_own_brow_is_never_given_back():
    brow, green = disc(0.5, 0.29, 0.05, 0.025), torch.tensor([0.1, 0.4, 0.1])
    person, other = paint(BARE, brow, green), paint(BARE, FRINGE, HAIR)
    result = leave_out_covered(other, person, POINTS, MASK)
    torch.testing.assert_close(result * brow, other * brow, rtol=0, atol=0.05)
    beside = disc(0.3, 0.29, 0.03, 0.02) * MASK.gt(0.9)
    torch.testing.assert_close(result * beside, person * beside, rtol=0, atol=0.05)


def test_what_skin_surrounds_is_part_of_the_face():
    mole = paint(BARE, disc(0.62, 0.68, 0.02, 0.02), HAIR)
    lips = paint(mole, disc(0.5, 0.735, 0.1, 0.025), torch.tensor([0.7, 0.15, 0.2]))
    torch.testing.assert_close(fit_to_skin(lips, POINTS, MASK), fit_to_skin(BARE, POINTS, MASK))


def test_a_mouth_is_the_persons_or_the_new_faces_and_never_half_of_each():
    mouth = disc(0.5, 0.735, 0.1, 0.025)
    for depth in (0.68, 0.71, 0.74, 0.77, 0.80):
        beard = (AXIS[:, None].expand(SIDE, SIDE) > depth).float()[None, None]
        share = float((fit_to_skin(paint(BARE, beard, HAIR), POINTS, MASK) * mouth).sum() / mouth.sum())
        assert share < 0.05 or share > 0.75, (depth, share)


def test_half_a_face_in_shadow_is_still_a_face():
    dark = BARE * torch.where(AXIS < 0.5, 0.15, 1.0)
    assert torch.equal(fit_to_skin(dark, POINTS, MASK), MASK)


def test_a_batch_is_its_pictures_and_brightness_alone_is_no_outline():
    both = torch.cat([BEARDED, FRINGED])
    together = fit_to_skin(both, POINTS.repeat(2, 1, 1), MASK.repeat(2, 1, 1, 1))
    alone = [fit_to_skin(one[None], POINTS, MASK) for one in both]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(fit_to_skin(0.6 * BEARDED, POINTS, MASK), alone[0], rtol=0, atol=0.2)


def test_spreading_stops_at_walls():
    open_ground = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    open_ground[..., 4] = False
    start = torch.zeros_like(open_ground)
    start[..., 0, 0] = True
    reached = reach_in(open_ground, start)
    assert bool(reached[..., :4].all())
    assert not bool(reached[..., 4:].any())


def test_outlines_that_fit_cost_nothing_and_a_beard_cut_off_or_brought_in_does():
    def cost(picture: torch.Tensor, reference: torch.Tensor) -> float:
        return float(outline_misfit(picture, reference, POINTS, MASK))

    assert cost(BARE, BARE) == cost(BEARDED, BEARDED) == 0.0
    assert cost(BARE, BEARDED) > 0.05
    assert cost(BEARDED, BARE) > cost(BARE, BEARDED), "hair brought in counts everywhere, hair cut off where it ends"
    assert cost(FRINGED, BARE) > 0.02


def test_in_pictures_a_fitted_mask_never_leaves_its_region():
    images, faces, settings = pictures(2), faces_in(2), MaskSettings(Region.INNER_FACE)
    fitted = fit_masks(images, faces, settings)
    assert fitted.shape == (2, 1, faces.height, faces.width)
    assert bool((fitted <= draw_masks(faces, settings)[:, None]).all())
    _, crops = crop_faces(images, faces, SIDE)
    whole = draw_masks(faces, settings)[:, None]
    laid = torch.zeros_like(whole)
    lay_masks(torch.ones(len(crops), 1, SIDE, SIDE), crops, whole, laid)
    torch.testing.assert_close(laid, whole, rtol=0, atol=1e-6)
    before = laid.clone()
    lay_masks(torch.zeros(len(crops), 1, SIDE, SIDE), crops, whole, laid)
    assert torch.equal(laid, before), "the larger one counts"
    assert find_covered(cut(images, crops), torch.zeros(len(crops), 5, 2) + 128.0, cut(whole, crops)).shape[-1] == GRID
