"""Strands of hair go from a donor's forehead; brows, eyes and everything else stay to the bit."""

import pytest
import torch

from faceprivacy_core.align import FFHQ_TEMPLATE
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.donors import _decode
from faceprivacy_core.strands import clear_forehead

SIDE = 256
POINTS = torch.from_numpy(FFHQ_TEMPLATE * SIDE - 0.5).float()[None]
SKIN = torch.tensor([0.7, 0.5, 0.42]).view(1, 3, 1, 1)


def forehead_row() -> int:
    eyes = POINTS[0, :2]
    return int(eyes[:, 1].mean() - 0.8 * (eyes[1, 0] - eyes[0, 0]))


def test_a_strand_on_the_forehead_goes_and_a_brow_or_one_on_the_cheek_stays():
    plain = SKIN.expand(1, 3, SIDE, SIDE) + 0.005 * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    marked = plain.clone()
    row, brow, cheek = forehead_row(), int(POINTS[0, 0, 1] - 12), int(POINTS[0, 2, 1])
    for line in (row, brow, cheek):
        marked[:, :, line : line + 3, 110:140] *= 0.5
    cleared = clear_forehead(marked, POINTS)
    assert float((cleared - plain)[:, :, row : row + 3].abs().max()) < 0.05
    assert float((marked - plain)[:, :, row : row + 3].abs().max()) > 0.2
    below = int(POINTS[0, :2, 1].mean() - 0.42 * (POINTS[0, 1, 0] - POINTS[0, 0, 0])) + 1
    assert torch.equal(cleared[:, :, below:], marked[:, :, below:])


def test_pictures_without_strands_and_foreheads_under_hair_stay_as_they_are():
    plain = SKIN.expand(1, 3, SIDE, SIDE).clone()
    assert torch.equal(clear_forehead(plain, POINTS), plain)
    covered = plain.clone()
    covered[:, :, : forehead_row() + 15] = 0.08
    covered[:, :, : forehead_row() : 4] = 0.02
    assert torch.equal(clear_forehead(covered, POINTS)[:, :, : forehead_row() - 20], covered[:, :, : forehead_row() - 20])


@pytest.mark.weights
def test_a_batch_equals_its_pictures_and_the_donors_of_the_bank_are_cleared():
    model = load_face_model()
    with torch.no_grad():
        raw = torch.cat([model.decode(model.donors.latents[number : number + 1]).clamp(0.0, 1.0) for number in (145, 227)])
    points = model.donors.landmarks5[[145, 227]] * SIDE - 0.5
    both = clear_forehead(raw, points)
    for row, number in enumerate((145, 227)):
        assert torch.equal(clear_forehead(raw[row : row + 1], points[row : row + 1])[0], both[row])
        assert torch.equal(_decode(model, number), (both[row] * 255.0).round().to(torch.uint8))
        assert float((both[row] - raw[row]).abs().max()) > 0.05
