"""Covers that begin as donors: chosen by surroundings, key and nonce, and by nothing of the original."""

import pytest
import torch
from torch import Tensor

from faceprivacy_core.keyed import covers
from faceprivacy_core.keyed.covers import choose_donors, draw_independent
from faceprivacy_core.keyed.derivation import FaceKey
from faceprivacy_core.keyed.keystream import Keystream
from tests.support.keyed import RAW_KEY, MixtureKeyedModel, background_of, face_cells

CELLS, STEPS, DONORS = face_cells(), 20, 40
KEY, OTHER, NONCE = FaceKey(RAW_KEY), FaceKey(bytes(32)), bytes(16)


@pytest.fixture
def model() -> MixtureKeyedModel:
    made = MixtureKeyedModel()
    made.donors = torch.cat([made.encode(made.draw_crop(100 + number)) for number in range(DONORS)])
    return made


def surroundings_of(model: MixtureKeyedModel) -> Tensor:
    return background_of(model, model.draw_crop(1)).latent


def test_the_best_fitting_rims_are_chosen_among_and_the_key_chooses(
    model: MixtureKeyedModel, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    surroundings = surroundings_of(model)
    fitting = CELLS * torch.randn(surroundings.shape, generator=torch.Generator().manual_seed(0)) + (1 - CELLS) * surroundings
    donors = torch.cat([model.donors, fitting])
    found = {
        int((donors == choose_donors(donors, surroundings, CELLS, [Keystream(bytes([number] * 32))])).all((1, 2, 3)).nonzero())
        for number in range(1, 60)
    }
    assert DONORS in found  # the one whose surroundings are these
    assert 8 <= len(found) <= covers.AMONG
    monkeypatch.setattr(covers, "AMONG", 1)
    assert torch.equal(choose_donors(donors, surroundings, CELLS, [Keystream(RAW_KEY)]), fitting)


def test_what_a_donor_shows_inside_does_not_choose_it(model: MixtureKeyedModel):
    surroundings = surroundings_of(model)
    plain = choose_donors(model.donors, surroundings, CELLS, [Keystream(RAW_KEY)])
    inside = choose_donors(model.donors, surroundings + 3.0 * CELLS, CELLS, [Keystream(RAW_KEY)])
    assert torch.equal(plain, inside)


def test_a_cover_follows_the_key_of_the_face_and_keeps_the_surroundings(model: MixtureKeyedModel):
    surroundings = surroundings_of(model)

    def draw(key: FaceKey) -> Tensor:
        return draw_independent(model, surroundings, CELLS, [key], [NONCE], STEPS)

    first = draw(KEY)
    assert torch.equal(first, draw(KEY))
    assert not torch.equal(first, draw(OTHER))
    outside = CELLS.expand_as(first) == 0
    assert torch.equal(first[outside], surroundings[outside])


def test_covers_of_a_batch_are_those_drawn_alone(model: MixtureKeyedModel):
    surroundings = torch.cat([background_of(model, model.draw_crop(seed)).latent for seed in (1, 2)])
    keys, nonces = [KEY, OTHER], [bytes([number] * 16) for number in (1, 2)]
    batch = draw_independent(model, surroundings, CELLS.repeat(2, 1, 1, 1), keys, nonces, STEPS)
    for index in range(2):
        part = slice(index, index + 1)
        alone = draw_independent(model, surroundings[part], CELLS, keys[part], nonces[part], STEPS)
        torch.testing.assert_close(batch[part], alone, rtol=0, atol=1e-4)


def test_a_cover_is_nearer_to_its_donor_than_one_drawn_from_noise_and_costs_a_fifth(model: MixtureKeyedModel):
    surroundings = surroundings_of(model)
    donor = choose_donors(model.donors, surroundings, CELLS, [Keystream(KEY.subkey("cover"))])
    calls = model.calls
    cover = draw_independent(model, surroundings, CELLS, [KEY], [NONCE], STEPS)
    fitted = model.calls - calls
    model.donors = None
    drawn = draw_independent(model, surroundings, CELLS, [KEY], [NONCE], STEPS)
    assert float(((cover - donor) * CELLS).norm()) < float(((drawn - donor) * CELLS).norm())
    assert fitted < 0.2 * (model.calls - calls - fitted)
