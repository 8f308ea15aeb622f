"""Light and seams: laws of matching, each bounded, each picture by itself, nothing where nothing is known."""

import pytest
import torch

from faceprivacy_core.blending import MAX_GAIN, MAX_SEAM, MAX_TONE, keep_tone, match_light, match_seam, seam_misfit, spread_out

SIDE = 64
EVERYWHERE = torch.ones(1, 1, SIDE, SIDE)


def grain(seed: int, level: float = 0.4) -> torch.Tensor:
    return level + 0.02 * torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def soft_mask() -> torch.Tensor:
    axis = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    distance = torch.hypot(axis[:, None], axis[None, :])
    return ((0.35 - distance) / 0.1).clamp(0.0, 1.0)[None, None].expand(2, 1, SIDE, SIDE)


def test_the_light_of_the_reference_is_taken_over_and_the_features_stay():
    x = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    even, tint = grain(0), torch.tensor([1.2, 1.0, 0.8]).view(1, 3, 1, 1)
    lit = even * (0.8 * x).exp() * tint
    matched = match_light(even, lit, EVERYWHERE)
    inner = slice(SIDE // 8, -SIDE // 8)
    torch.testing.assert_close(matched[..., inner], lit[..., inner], rtol=0, atol=0.02)
    torch.testing.assert_close(match_light(even, even, EVERYWHERE), even, rtol=0, atol=1e-5)


def test_the_gain_is_bounded_and_beyond_the_weight_goes_on_as_nearby():
    dark, bright = grain(1, 0.1), grain(2, 0.9)
    gain = match_light(dark, bright, EVERYWHERE) / dark
    assert float(gain.max()) <= MAX_GAIN + 1e-4
    weight = EVERYWHERE.clone()
    weight[..., SIDE // 2 :] = 0.0
    torch.testing.assert_close(match_light(dark, 1.5 * dark, weight), 1.5 * dark, rtol=0, atol=5e-3)


def test_a_difference_of_colour_is_gone_at_the_seam_and_a_law_of_no_seam_changes_nothing():
    reference, mask = grain(3), soft_mask()
    shifted = reference + torch.tensor([0.1, -0.05, 0.05]).view(1, 3, 1, 1)
    matched = match_seam(shifted, reference, mask)
    torch.testing.assert_close(matched, reference, rtol=0, atol=0.01)
    torch.testing.assert_close(match_seam(reference, reference, mask), reference, rtol=0, atol=1e-6)
    shown = float(seam_misfit(shifted, reference, mask, EVERYWHERE).min())
    assert float(seam_misfit(matched, reference, mask, EVERYWHERE).max()) < 0.1 * shown


def test_no_seam_is_seen_where_a_mask_ends_at_something_else_than_skin_or_at_an_edge():
    reference, mask = grain(2), soft_mask()
    assert float(seam_misfit(reference + 0.1, reference, mask, 0.0 * EVERYWHERE).max()) == 0.0
    assert float(seam_misfit(reference + 1.5 * MAX_SEAM, reference, mask, EVERYWHERE).max()) == 0.0
    assert float(seam_misfit(reference + 0.1, reference, mask, EVERYWHERE).min()) > 0.05


def test_hair_against_skin_is_not_carried_into_the_face():
    reference, mask = grain(4, 0.8), soft_mask()
    other = reference - 3 * MAX_SEAM
    assert torch.equal(match_seam(other, reference, mask), other.clamp(0.0, 1.0))


def test_leaves_as_bright_as_skin_are_not_carried_into_the_face():
    mask = soft_mask()
    face = grain(8, 0.5) + torch.tensor([0.08, 0.0, -0.08]).view(1, 3, 1, 1)
    around = torch.where(mask > 0.5, face, grain(9, 0.5) + torch.tensor([-0.08, 0.08, -0.08]).view(1, 3, 1, 1))
    torch.testing.assert_close(match_seam(face, around, mask), face, rtol=0, atol=1e-6)


def test_every_picture_of_a_batch_is_matched_by_itself():
    pictures, references, mask = grain(5), grain(7, 0.5), soft_mask()
    lit, joined = match_light(pictures, references, EVERYWHERE), match_seam(pictures, references, mask)
    for index in range(2):
        one, other = pictures[index : index + 1], references[index : index + 1]
        torch.testing.assert_close(lit[index : index + 1], match_light(one, other, EVERYWHERE), rtol=0, atol=1e-6)
        torch.testing.assert_close(joined[index : index + 1], match_seam(one, other, mask[:1]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (33, 20)])
def test_known_values_stay_and_a_constant_fills_everything(size: tuple[int, int]):
    weight = torch.zeros(1, 1, *size)
    weight[..., 0, 0] = 1.0
    filled = spread_out(torch.full((1, 2, *size), 0.3) * weight, weight)
    torch.testing.assert_close(filled, torch.full((1, 2, *size), 0.3), rtol=0, atol=1e-5)
    assert float(spread_out(torch.rand(1, 2, *size), torch.zeros(1, 1, *size)).abs().max()) == 0.0


def test_well_inside_the_mask_skin_takes_the_tone_of_the_person_and_at_the_seam_nothing_changes():
    person, tint = grain(7, 0.5), torch.tensor([0.06, -0.03, -0.05]).view(1, 3, 1, 1)
    drawn = torch.cat([person + tint, grain(8, 0.45)])
    kept = keep_tone(drawn, person, soft_mask(), EVERYWHERE.repeat(4, 1, 1, 1))
    middle = slice(SIDE // 2 - 3, SIDE // 2 + 3)
    tone = [part[..., middle, middle].mean((2, 3)) for part in (kept, person.repeat(2, 1, 1, 1))]
    torch.testing.assert_close(*tone, rtol=0, atol=0.015)
    rim = (soft_mask() < 0.5).repeat(2, 3, 1, 1)
    torch.testing.assert_close(kept[rim], drawn[rim], rtol=0, atol=2e-3)
    torch.testing.assert_close(keep_tone(person, person, soft_mask(), EVERYWHERE.repeat(2, 1, 1, 1)), person, rtol=0, atol=1e-6)


def test_tone_is_set_by_skin_alone_by_no_more_than_a_tenth_and_not_without_any():
    person, mask = grain(9, 0.8), soft_mask()
    nowhere = torch.zeros(2, 1, SIDE, SIDE)
    torch.testing.assert_close(keep_tone(grain(10, 0.2), person, mask, nowhere), grain(10, 0.2), rtol=0, atol=0)
    everywhere = EVERYWHERE.repeat(2, 1, 1, 1)
    assert float((keep_tone(grain(10, 0.2), person, mask, everywhere) - grain(10, 0.2)).max()) <= MAX_TONE + 1e-6
    bearded, skin = person.clone(), everywhere.clone()
    bearded[..., SIDE // 2 :, :], skin[..., SIDE // 2 :, :] = 0.1, 0.0
    torch.testing.assert_close(keep_tone(bearded, person, mask, skin), bearded, rtol=0, atol=5e-3)
