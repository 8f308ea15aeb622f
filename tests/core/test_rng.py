"""Seeds of the results of a batch."""

import torch

from faceprivacy_core.rng import face_seed, face_seeds, seeded_noise


def test_faces_are_counted_within_their_picture_and_results_go_variant_by_variant():
    found = face_seeds(5, [0, 0, 1, 0], variants=2)
    numbers = [0, 1, 0, 2]
    assert found == [face_seed(5, number, variant) for variant in (0, 1) for number in numbers]
    assert face_seeds(5, [7]) == face_seeds(5, [0]) == [5]
    assert len({*face_seeds(5, [0, 0, 0], variants=3)}) == 9


def test_noise_of_an_item_depends_on_its_seed_alone():
    together = seeded_noise([3, 4], (2, 2))
    torch.manual_seed(9)
    assert torch.equal(seeded_noise([4], (2, 2))[0], together[1])
    assert not torch.equal(together[0], together[1])
