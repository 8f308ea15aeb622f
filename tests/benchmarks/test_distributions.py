"""Distances between sets of faces: closed forms, laws, and what colour and landmarks say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from benchmarks.distributions import (
    Seen,
    by_group,
    compare,
    frechet_distance,
    head_turn,
    pair_similarities,
    skin_and_pose_groups,
    skin_tone_deg,
)
from faceprivacy_core.align import FFHQ_TEMPLATE
from tests.support.recognizer import ProjectionRecognizer

LANDMARKS = FFHQ_TEMPLATE * 128
RECOGNIZER = ProjectionRecognizer("toy")


def random_vectors(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_is_that_of_the_formula():
    first = random_vectors(50, 6, 0) @ random_vectors(6, 6, 1)
    second = random_vectors(70, 6, 2) @ random_vectors(6, 6, 3) + 0.5
    covariances = [np.cov(vectors.numpy(), rowvar=False) for vectors in (first, second)]
    shift = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    expected = float(shift) + np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [5, 200])
def test_frechet_distance_knows_shift_and_spread_also_with_few_vectors(count: int):
    vectors = random_vectors(count, 20, 0)
    vectors -= vectors.mean(dim=0)
    assert frechet_distance(vectors, vectors) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(vectors, vectors + 3.0) == pytest.approx(20 * 9.0)
    variance = float(vectors.var(dim=0).sum())
    assert frechet_distance(vectors - vectors.mean(dim=0), 3.0 * (vectors - vectors.mean(dim=0))) == pytest.approx(
        4.0 * variance
    )


def test_every_pair_counts_once_and_nobody_with_himself():
    vectors = torch.eye(4)[:3]
    vectors[2] = vectors[0]
    assert sorted(pair_similarities(vectors).tolist()) == [0.0, 0.0, 1.0]


def seen(embeddings: torch.Tensor) -> Seen:
    count = len(embeddings)
    return Seen(1.0, embeddings, {"toy": embeddings}, torch.linspace(0, 40, count), torch.linspace(-0.2, 0.2, count))


def test_faces_of_the_training_set_are_recognised_as_such():
    people = torch.nn.functional.normalize(random_vectors(60, 64, 0), dim=1)
    known, strangers = seen(people[:20]), seen(people[20:40])
    name = "nearest training face below the threshold of photos, toy"
    assert compare(known, strangers, known, [RECOGNIZER])[name] == 0.0
    assert compare(strangers, strangers, known, [RECOGNIZER])[name] > 0.9
    assert name not in compare(strangers, strangers, None, [RECOGNIZER])


def test_a_model_that_draws_one_person_is_told_from_the_generator():
    people = torch.nn.functional.normalize(random_vectors(60, 64, 0), dim=1)
    one = torch.nn.functional.normalize(people[:1] + 0.02 * random_vectors(20, 64, 1), dim=1)
    alike, other = (compare(seen(faces), seen(people[20:40]), None, [RECOGNIZER]) for faces in (people[:20], one))
    pairs = "pairs taken for one person, threshold of photos, toy"
    assert alike[pairs] < 0.1
    assert other[pairs] == 1.0
    for figure in ("similarity of pairs, distance to the generator's, toy", "Fréchet distance, toy"):
        assert other[figure] > alike[figure] + 0.1, figure


def test_skin_tone_is_the_angle_of_the_cheeks_colour():
    light, dark = ([224, 172, 145], [92, 62, 46])
    angles = [skin_tone_deg(np.full((128, 128, 3), colour, np.uint8), LANDMARKS) for colour in (light, dark)]
    assert angles[0] > 28.0  # "intermediate" and lighter
    assert angles[1] < -30.0  # "dark"
    picture = np.full((128, 128, 3), light, np.uint8)
    picture[:30] = picture[-20:] = 0  # hair and neck
    assert skin_tone_deg(picture, LANDMARKS) == angles[0]


def test_turn_of_the_head_is_free_of_place_size_and_tilt_and_mirrors():
    points = LANDMARKS.copy()
    points[2, 0] += 6.0
    turned = head_turn(points)
    tilt = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert turned > head_turn(LANDMARKS) + 0.05
    assert head_turn(2.5 * points @ tilt.T + 7.0) == pytest.approx(turned)
    mirrored = (points * [-1.0, 1.0])[[1, 0, 2, 4, 3]]
    assert head_turn(mirrored) == pytest.approx(-turned)


def test_groups_are_thirds_and_figures_are_averaged_over_them():
    shades = torch.linspace(0.3, 0.8, 6).view(6, 1, 1, 1) * torch.tensor([1.0, 0.8, 0.7]).view(1, 3, 1, 1)
    groups = skin_and_pose_groups(shades.expand(6, 3, 128, 128), torch.from_numpy(np.stack([LANDMARKS] * 6)))
    assert groups["darkest third"].tolist() == [True, True, False, False, False, False]
    assert groups["lightest third"].tolist() == [False, False, False, False, True, True]
    figures = by_group({"PSNR": torch.arange(6.0)}, groups)
    assert figures["PSNR, darkest third"] == 0.5
    assert figures["PSNR, lightest third"] == 4.5
