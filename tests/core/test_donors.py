"""Which donor lends its look: fitting in pose, skin and traits, never a look-alike, by seed; and how candidates are judged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from faceprivacy_core import auditions
from faceprivacy_core.align import FFHQ_TEMPLATE
from faceprivacy_core.auditions import Audition
from faceprivacy_core.builtin.donors import DonorBank, build_donors, join_banks, read_trait, rim_of
from faceprivacy_core.candidates import MARGIN, MAX_DRIFT, REACH, best_of, find_again, judge
from faceprivacy_core.donors import (
    Age,
    DonorSettings,
    Person,
    Sex,
    choose_donors,
    donor_pictures,
    light_up,
    places_of,
    rank_donors,
    read_turn,
    see_person,
    skin_colour,
)
from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.types import Face
from tests.support.donors import random_bank
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
SIDE = 64
POINTS = torch.from_numpy(FFHQ_TEMPLATE * SIDE - 0.5).float()[None]


def person_like(bank: DonorBank, index: int, *, pose: float = 0.0, skin: float = 0.0, likeness: float = 0.0) -> Person:
    """A person at a donor's place and colour, off by given amounts, and as alike to it as said."""
    crop = bank.skin[index].view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE) + skin
    points = bank.landmarks5[index : index + 1] * SIDE - 0.5 + pose * SIDE
    vectors = []
    for recognizer in RECOGNIZERS:
        own = bank.vectors[recognizer.name][index]
        other = torch.randn(len(own), generator=torch.Generator().manual_seed(9))
        other = F.normalize(other - (other @ own) * own, dim=0)
        vectors.append((likeness * own + (1 - likeness**2) ** 0.5 * other)[None])
    return Person(crop, points, tuple(vectors), RECOGNIZERS, bank.latents[index : index + 1])


def test_the_donor_of_the_same_pose_and_skin_comes_first():
    bank, settings = random_bank(), DonorSettings(follow_traits=False)
    for index in range(len(bank)):
        assert int(rank_donors(bank, person_like(bank, index), settings)[0, 0]) == index


def test_a_donor_who_looks_elsewhere_comes_behind_those_who_look_the_same_way():
    bank = random_bank()
    straight = torch.from_numpy(FFHQ_TEMPLATE).float()[None].repeat(len(bank), 1, 1)
    straight[1:, 2, 0] += 0.05
    straight[1:, 0, 1] += torch.linspace(0.0, 0.002, len(bank) - 1)
    bank = replace(bank, landmarks5=straight, skin=bank.skin[:1].expand(len(bank), 3))
    person = person_like(bank, 2)
    ranking = rank_donors(replace(bank, vectors={}), person, DonorSettings(follow_traits=False))
    assert int(ranking[0, -1]) == 0
    assert float(read_turn(straight[1:2]) - read_turn(straight[:1])) == pytest.approx(
        0.05 / float(straight[0, 1, 0] - straight[0, 0, 0]), rel=0.02
    )


def test_places_are_those_in_the_ranking_of_the_own_face():
    ranking = torch.tensor([[3, 1, 2], [2, 3, 1]])
    assert places_of(torch.tensor([3, 3, 2, 1]), ranking).tolist() == [0, 1, 2, 2]


def test_a_look_alike_comes_last_even_if_it_fits_best():
    bank = random_bank()
    ranking = rank_donors(bank, person_like(bank, 2, likeness=0.9), DonorSettings())
    assert int(ranking[0, -1]) == 2


def test_a_flawed_donor_comes_last_even_if_it_fits_best():
    bank = replace(random_bank(), flawed=(2, 4))
    assert set(rank_donors(bank, person_like(bank, 2), DonorSettings())[0, -2:].tolist()) == {2, 4}


def test_traits_follow_the_person_unless_they_are_to_be_mixed():
    bank = random_bank(width=256)
    latents = torch.zeros_like(bank.latents)
    latents[bank.women] = 1.0
    alike = replace(
        bank, latents=latents, landmarks5=bank.landmarks5[:1].expand(6, 5, 2), skin=bank.skin[:1].expand(6, 3),
        older=torch.zeros(6, dtype=torch.bool), vectors={},
    )  # fmt: skip
    for index in range(6):
        person = replace(person_like(bank, 0), latents=latents[index : index + 1], vectors=(), recognizers=())
        first = rank_donors(alike, person, DonorSettings())[0, :3]
        assert bool((alike.women[first] == alike.women[index]).all())
        assert rank_donors(alike, person, DonorSettings(follow_traits=False))[0].tolist() == list(range(6)), "all fit equally"


def test_what_is_asked_for_goes_before_what_is_read_and_before_what_fits():
    bank = random_bank()
    for index in range(len(bank)):
        person = replace(person_like(bank, index), vectors=(), recognizers=())  # to whom nobody is a look-alike
        count = int(bank.women.sum())
        for follow in (True, False):
            asked = DonorSettings(follow_traits=follow, sex=Sex.WOMAN)
            assert bool(bank.women[rank_donors(bank, person, asked)[0, :count]].all())
            older = DonorSettings(follow_traits=follow, age=Age.YOUNGER)
            assert not bool(bank.older[rank_donors(bank, person, older)[0, 0]])


def test_a_trait_is_read_off_latents_and_not_off_their_scale():
    random = torch.Generator().manual_seed(0)
    women = torch.arange(60) % 3 == 0
    latents = torch.randn(60, 4, 8, 8, generator=random)
    latents[:, 0] += 2.0 * women[:, None, None]
    bank = replace(random_bank(), latents=latents, women=women)
    asked = torch.randn(20, 4, 8, 8, generator=random)
    asked[:10, 0] += 2.0
    believed = read_trait(bank, women, asked)
    assert float(believed.min()) >= 0.0
    assert float(believed.max()) <= 1.0
    assert bool((believed[:10] > 0.5).all())
    assert bool((believed[10:] < 0.5).all())


def test_a_donor_that_fits_where_the_new_face_ends_comes_first_and_what_is_inside_does_not_count():
    bank, settings = random_bank(width=256), DonorSettings(follow_traits=False)
    alike = replace(bank, landmarks5=bank.landmarks5[:1].expand(6, 5, 2), skin=bank.skin[:1].expand(6, 3))
    size = bank.latents.shape[-1]
    mask = torch.zeros(1, 1, 4 * size, 4 * size)
    mask[..., 2:-2, 2:-2] = 1.0
    rim = rim_of(mask, size)
    assert float(rim[..., 1:-1, 1:-1].sum()) == 0.0
    assert float(rim.sum()) > 0.0
    inside = torch.zeros(1, 1, size, size)
    inside[..., 1:-1, 1:-1] = 1.0
    for index in range(6):
        person = replace(person_like(alike, 0), latents=bank.latents[index : index + 1] + 5.0 * inside)
        assert int(rank_donors(alike, person, settings, rim)[0, 0]) == index


def test_results_of_one_face_get_different_donors_and_a_seed_repeats():
    ranking = torch.arange(6).repeat(2, 1)
    settings = DonorSettings(among=4)
    seeds = [7, 8, 107, 108, 207, 208]
    chosen = choose_donors(ranking, seeds, settings)
    assert torch.equal(chosen, choose_donors(ranking, seeds, settings))
    assert len(set(chosen[0::2].tolist())) == len(set(chosen[1::2].tolist())) == 3
    assert int(chosen.max()) < 4
    alone = choose_donors(ranking[1:], seeds[1::2], settings)
    assert torch.equal(alone, chosen[1::2]), "a face alone gets what it gets in a batch"


def test_recognisers_that_the_bank_does_not_know_are_left_out_of_the_ranking():
    bank, crop = random_bank(), torch.rand(1, 3, SIDE, SIDE)
    knows_one = replace(bank, vectors={"a": bank.vectors["a"]})
    both, one, nobody = (see_person(crop, POINTS, some, bank.latents[:1]) for some in (RECOGNIZERS, RECOGNIZERS[:1], ()))
    assert torch.equal(rank_donors(knows_one, both, DonorSettings()), rank_donors(bank, one, DonorSettings()))
    unknown = rank_donors(replace(bank, vectors={}), both, DonorSettings())
    assert torch.equal(unknown, rank_donors(bank, nobody, DonorSettings()))


def test_skin_is_read_off_the_cheeks():
    crop = torch.zeros(1, 3, SIDE, SIDE)
    crop[:, :, SIDE // 2 :, :] = torch.tensor([0.8, 0.6, 0.5]).view(1, 3, 1, 1)
    torch.testing.assert_close(skin_colour(crop, POINTS), torch.tensor([[0.8, 0.6, 0.5]]))


def test_light_is_read_off_skin_and_not_off_sunglasses():
    side = 64
    points = torch.tensor([[[24.0, 29], [40, 29], [32, 39], [25, 47], [39, 47]]])
    bare = torch.tensor([0.8, 0.6, 0.5]).view(1, 3, 1, 1).expand(1, 3, side, side).clone()
    worn, donor = bare.clone(), 0.7 * bare
    worn[:, :, 24:35, 12:52] = 0.03
    results = [light_up(donor, see_person(crop, points, (), torch.zeros(1, 4, 4, 4)), DonorSettings()) for crop in (bare, worn)]
    torch.testing.assert_close(results[0], bare, rtol=0, atol=0.02)
    torch.testing.assert_close(results[1], bare, rtol=0, atol=0.02)


def test_banks_are_joined_and_numbers_flaws_and_readers_stay():
    bank, more = replace(random_bank(), flawed=(2, 4)), random_bank(3)
    both = join_banks(bank, more)
    assert len(both) == len(bank) + 3
    assert both.flawed == (2, 4)
    for name in ("latents", "landmarks5", "skin", "women", "older"):
        assert torch.equal(getattr(both, name), torch.cat([getattr(bank, name), getattr(more, name)]))
    assert both.vectors.keys() == bank.vectors.keys()
    assert all(len(vectors) == len(both) for vectors in both.vectors.values())
    with pytest.raises(ModelFileError, match="more donors like those of the model file"):
        join_banks(bank, replace(more, vectors={}))


WHOLE = ("latents", "landmarks5", "skin", "vectors.a")


@pytest.mark.parametrize(
    ("config", "missing"),
    [({}, ""), ({"sex": "wm", "age": "aa"}, "vectors.a"), ({"sex": "wm", "age": "aa"}, "skin"), ({"sex": "w", "age": "a"}, "")],
)
def test_a_bank_that_is_not_whole_is_refused(config: dict[str, str], missing: str):
    bank = random_bank(2)
    parts = {"latents": bank.latents, "landmarks5": bank.landmarks5, "skin": bank.skin, "vectors.a": bank.vectors["a"]}
    with pytest.raises(ModelFileError, match="bank of donors"):
        build_donors(config, {name: parts[name] for name in WHOLE if name != missing})
    whole = build_donors({"sex": "wm", "age": "oa"}, parts)
    assert len(whole) == 2
    assert whole.women.tolist() == [True, False]
    assert whole.older.tolist() == [True, False]


class PlaceDetector:
    """Finds the face where it was told, with the brightness of the picture as its confidence; none in the dark."""

    name = "place"

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def detect(self, image: np.ndarray) -> list[Face]:
        brightness = float(image.mean()) / 255
        border = (image.shape[0] - SIDE) / 2
        points = POINTS[0].double().numpy() + border + self.shift
        return [] if brightness < 0.1 else [Face(0, (0, 0, SIDE, SIDE), points, brightness)]


def test_a_candidate_passes_only_if_unknown_in_place_and_there():
    recognizer = ProjectionRecognizer("a", 0)
    random = torch.Generator().manual_seed(1)
    original = torch.rand(1, 3, 4, 4, generator=random).repeat_interleave(16, 2).repeat_interleave(16, 3)
    vector = recognizer.embed(original, POINTS)
    opposite = 1.0 - original
    candidates = torch.cat([original, opposite, torch.zeros_like(original)])
    verdict = judge(candidates, POINTS, [vector], [recognizer], PlaceDetector())
    assert verdict.passed.tolist() == [False, True, False]
    assert verdict.cost[1] < verdict.cost[0] < verdict.cost[2] == torch.inf
    assert float(verdict.nearness[0]) == pytest.approx(1.0 - recognizer.thresholds[0.01], abs=1e-5)
    assert bool((verdict.nearness[verdict.passed] < -MARGIN).all())
    far = judge(opposite, POINTS, [vector], [recognizer], PlaceDetector(shift=2 * MAX_DRIFT * SIDE))
    assert not bool(far.passed)
    assert not bool(far.reachable)
    blind = judge(opposite, POINTS, [vector], [recognizer], None)
    assert bool(blind.passed)
    limit = recognizer.thresholds[0.01]
    for above, passed, reachable in ((REACH + 0.01, False, False), (REACH - 0.01, False, True), (-MARGIN - 0.01, True, True)):
        seen = F.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(3)), dim=1)
        seen = F.normalize(seen - (seen @ vector.T) * vector, dim=1)
        known = (limit + above) * vector + (1.0 - (limit + above) ** 2) ** 0.5 * seen
        verdict = judge(original, POINTS, [known], [recognizer], None)
        assert (bool(verdict.passed), bool(verdict.reachable)) == (passed, reachable), above


def test_drift_is_the_mean_distance_of_the_landmarks():
    drift, doubt = find_again(torch.full((1, 3, SIDE, SIDE), 0.5), POINTS, PlaceDetector(shift=3.0))
    assert float(drift) == pytest.approx(3.0 * 2**0.5 / SIDE, rel=1e-6)
    assert float(doubt) == pytest.approx(0.5, abs=0.01)


def test_the_cheapest_candidate_of_every_face_and_variant_is_taken():
    cost = torch.tensor([3.0, 1.0, 5.0, 9.0, 2.0, 4.0, 1.0, 0.5])  # two candidates of two variants of two faces
    assert best_of(cost, num_faces=2, variants=2).tolist() == [4, 1, 6, 7]


def test_nonsense_settings_are_refused():
    with pytest.raises(InputError, match="among at least one"):
        DonorSettings(among=0)


class Decodes:
    """A model of which only the decoder is asked; a batch comes out a little different from its pictures alone."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.donors = random_bank()
        self.calls: list[int] = []

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(latents))
        return torch.sigmoid(latents.mean((1, 2, 3))).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE) + 0.01 * len(latents)


def test_a_donor_is_decoded_once_and_looks_the_same_whoever_else_is_asked_for():
    model, person = Decodes(), person_like(random_bank(), 0)
    plain = DonorSettings(match_colour=False)
    alone = donor_pictures(model, torch.tensor([2]), person, plain)
    together = donor_pictures(model, torch.tensor([0, 2, 1]), person, plain)
    assert model.calls == [1, 1, 1]
    assert torch.equal(alone[0], together[1])
    other = Decodes()
    donor_pictures(other, torch.tensor([2]), person, plain)
    assert other.calls == [1], "another model decodes its own"


def test_further_donors_are_heard_only_where_everybody_was_taken_for_the_person(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auditions, "SHORT_LIST", 20)
    bank = random_bank(50)
    person, costs = person_like(bank, 0), torch.arange(50.0)[None]
    for good, lists in ((3, 1), (25, 2), (99, 3)):
        asked: list[list[int]] = []

        def hear(model: object, person: object, listed: torch.Tensor, worse: torch.Tensor, *rest: object) -> list[Audition]:
            asked.append(listed[0].tolist())  # noqa: B023
            assert torch.equal(worse, listed.float())
            passed = torch.tensor([good in listed[0].tolist()])  # noqa: B023
            return [Audition(listed, passed, worse[:, 0])]

        monkeypatch.setattr(auditions, "_hear", hear)
        (heard,) = auditions.audition(bank, person, costs, [torch.ones(1, 1, SIDE, SIDE)], DonorSettings())
        assert len(asked) == lists
        assert asked[0] == list(range(auditions.SHORT_LIST))
        assert heard.order[0].tolist() == asked[-1 if good < 50 else 0]
