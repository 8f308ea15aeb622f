"""Covers that begin as donors: chosen by surroundings, key and nonce, and by nothing of the original."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from faceprivacy_core.builtin.donors import DonorBank
from faceprivacy_core.keyed import covers
from faceprivacy_core.keyed.covers import choose_donors, draw_independent
from faceprivacy_core.keyed.derivation import FaceKey
from faceprivacy_core.keyed.keystream import Keystream
from tests.support.keyed import RAW_KEY, MixtureKeyedModel, background_of, face_cells

CELLS, STEPS, DONORS = face_cells(), 20, 40
KEY, OTHER, NONCE = FaceKey(RAW_KEY), FaceKey(bytes(32)), bytes(16)


def bank_of(latents: Tensor, women: Tensor | None = None) -> DonorBank:
    """A bank of which covers read nothing but latents and apparent sex."""
    count, nothing = len(latents), torch.zeros(len(latents), 1)
    nobody = torch.zeros(count, dtype=torch.bool)
    return DonorBank(latents, nothing, nothing, {}, nobody if women is None else women, nobody)


@pytest.fixture
def model() -> MixtureKeyedModel:
    made = MixtureKeyedModel()
    made.donors = bank_of(torch.cat([made.encode(made.draw_crop(100 + number)) for number in range(DONORS)]))
    return made


def surroundings_of(model: MixtureKeyedModel) -> Tensor:
    return background_of(model, model.draw_crop(1)).latent


def test_the_best_fitting_rims_are_chosen_among_and_the_key_chooses(
    model: MixtureKeyedModel, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    surroundings = surroundings_of(model)
    fitting = CELLS * torch.randn(surroundings.shape, generator=torch.Generator().manual_seed(0)) + (1 - CELLS) * surroundings
    donors = torch.cat([model.donors.latents, fitting])
    bank = bank_of(donors)
    found = {
        int((donors == choose_donors(bank, surroundings, CELLS, [Keystream(bytes([number] * 32))])).all((1, 2, 3)).nonzero())
        for number in range(1, 60)
    }
    assert DONORS in found  # the one whose surroundings are these
    assert 4 <= len(found) <= covers.AMONG
    monkeypatch.setattr(covers, "AMONG", 1)
    assert torch.equal(choose_donors(bank, surroundings, CELLS, [Keystream(RAW_KEY)]), fitting)
    flawed = replace(bank, flawed=(DONORS,))
    assert not torch.equal(choose_donors(flawed, surroundings, CELLS, [Keystream(RAW_KEY)]), fitting)


def test_surroundings_tell_the_sex_of_a_cover_and_the_hidden_face_does_not():
    """Half of the donors have other surroundings; inside, women and men differ the other way round."""
    random, cells = torch.Generator().manual_seed(3), torch.zeros(1, 1, 16, 16)
    cells[..., 4:12, 4:12] = 1.0
    women = torch.arange(40) % 2 == 0
    sign = torch.where(women, 1.0, -1.0)[:, None, None, None]
    latents = sign * (0.3 * (1.0 - cells) - 3.0 * cells) + torch.randn(40, 4, 16, 16, generator=random)
    for wanted, around in ((True, 0.3), (False, -0.3)):
        hidden = (1.0 - cells) * around + cells * (3.0 if wanted else -3.0)
        person = hidden + 0.1 * torch.randn(1, 4, 16, 16, generator=random)
        keys = [Keystream(bytes([number] * 32)) for number in range(1, 9)]
        chosen = choose_donors(bank_of(latents, women), person.repeat(8, 1, 1, 1), cells.repeat(8, 1, 1, 1), keys)
        numbers = [int((latents == one).all(1).all(1).all(1).nonzero()) for one in chosen]
        assert all(bool(women[number]) is wanted for number in numbers)


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
