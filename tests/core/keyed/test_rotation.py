"""The keyed rotation: invertible, orthogonal, and it hides what a sign flip shows."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from faceprivacy_core.keyed.keystream import Keystream
from faceprivacy_core.keyed.rotation import Rotation
from tests.support.keyed import RAW_KEY, cosine


def key(number: int) -> bytes:
    return Keystream(number.to_bytes(32, "little")).take(32)


def draws(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, size))


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1234, 5003, 6553, 12288, 16384])
def test_it_is_undone_exactly(size: int, rounds: int):
    (vector,) = draws(1, size)
    rotation = Rotation(RAW_KEY, size, rounds)
    rotated = rotation.apply(vector)
    assert np.abs(rotation.invert(rotated) - vector).max() <= 1e-12
    assert np.abs(rotation.invert(rotated.astype(np.float32).astype(np.float64)) - vector).max() <= 5e-6
    single = vector.astype(np.float32)
    assert np.array_equal(rotation.invert(rotation.apply(single.astype(np.float64))).astype(np.float32), single)
    assert np.linalg.norm(rotated) == pytest.approx(np.linalg.norm(vector), rel=1e-12)


def test_it_is_orthogonal():
    rotation = Rotation(RAW_KEY, 512)
    matrix = np.stack([rotation.apply(row) for row in np.eye(512)])
    assert np.abs(matrix.T @ matrix - np.eye(512)).max() <= 1e-12


def test_its_values_are_frozen():
    """Another value here would make every picture encrypted so far unreadable."""
    rotated = Rotation(RAW_KEY, 10).apply(np.arange(1, 11) / 10)
    expected = [
        0.366605339059327, 0.072518939877062, 0.621154851942814, -0.053369407771256, 0.150390286503212,
        -0.073613591206575, -0.651906790797708, -0.115716991411009, 1.689720869120796, 0.009704861553974,
    ]  # fmt: skip
    np.testing.assert_allclose(rotated, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["gaussian", "one hot", "constant", "smooth", "scaled"])
def test_every_input_comes_out_as_noise(kind: str):
    size = 12288
    (vector,) = draws(1, size)
    vector = {
        "gaussian": vector, "one hot": np.eye(1, size)[0], "constant": np.ones(size),
        "smooth": np.sin(np.arange(size) / 200.0), "scaled": 0.1 * vector,
    }[kind]  # fmt: skip
    vector = vector / np.sqrt(np.mean(vector**2))
    rotated = Rotation(RAW_KEY, size).apply(vector)
    bound = 4 / np.sqrt(size)
    assert abs(rotated.mean()) < bound
    assert rotated.var() == pytest.approx(1.0, abs=0.03)
    assert abs(stats.kurtosis(rotated)) < 0.3
    assert stats.kstest(rotated, "norm").pvalue > 1e-3
    image = rotated.reshape(4, 48, 64)
    assert abs(np.mean(image[..., 1:] * image[..., :-1])) < bound


def test_another_key_leads_nowhere():
    (vector,) = draws(1, 6553)
    rotated = Rotation(key(0), 6553).apply(vector)
    cosines = [cosine(Rotation(key(number), 6553).invert(rotated), vector) for number in range(1, 51)]
    assert np.abs(cosines).max() <= 5 / np.sqrt(6553)


def test_ten_covers_of_one_face_are_unrelated():
    (vector,) = draws(1, 5003)
    covers = [Rotation(key(number), 5003).apply(vector) for number in range(10)]
    pairs = [cosine(a, b) for i, a in enumerate(covers) for b in covers[:i]]
    assert np.abs(pairs).max() <= 5 / np.sqrt(5003)
    assert len({np.sort(np.abs(cover)).tobytes() for cover in covers}) == 10


class Gallery:
    """An attacker with the public model: inverts the published face and 500 candidates."""

    def __init__(self, fidelity: float, size: int = 2000, people: int = 500) -> None:
        self.candidates = draws(people, size)
        seen = fidelity * self.candidates + np.sqrt(1 - fidelity**2) * draws(people, size, seed=1)
        self.seen = standardise(seen)
        self.candidates = standardise(self.candidates)

    def top1(self, protect: Callable[..., np.ndarray], feature: Callable[..., np.ndarray]) -> float:
        """Return how often the best match over all candidates is the right one."""
        secret = np.stack([protect(number, row) for number, row in enumerate(self.seen)])
        scores = standardise(feature(secret)) @ standardise(feature(self.candidates)).T
        return float(np.mean(scores.argmax(axis=1) == np.arange(len(secret))))


def standardise(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True))


def flip(number: int, row: np.ndarray) -> np.ndarray:
    return row * Keystream(key(number)).signs(len(row))


def rotate(number: int, row: np.ndarray) -> np.ndarray:
    return Rotation(key(number), len(row)).apply(row)


def sorted_magnitudes(rows: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(rows), axis=1)


@pytest.mark.parametrize("fidelity", [1.0, 0.9, 0.5])
def test_magnitudes_give_a_sign_flip_away_and_not_a_rotation(fidelity: float):
    gallery = Gallery(fidelity, size=5000)
    assert gallery.top1(flip, np.abs) >= 0.95  # the attack works
    assert gallery.top1(rotate, np.abs) <= 0.02


def test_sorted_magnitudes_give_a_sign_flip_away_and_not_a_rotation():
    gallery = Gallery(1.0)
    assert gallery.top1(flip, sorted_magnitudes) >= 0.95
    assert gallery.top1(rotate, sorted_magnitudes) <= 0.02


def test_the_norm_says_nothing_once_standardised():
    scales = np.random.default_rng(2).uniform(0.8, 1.2, (500, 1))
    vectors = draws(500, 1000) * scales
    raw = np.stack([rotate(number, row) for number, row in enumerate(vectors)])
    norms = np.linalg.norm(raw, axis=1)
    found = [np.abs(np.linalg.norm(vectors, axis=1) - norm).argmin() for norm in norms]
    assert np.mean(np.array(found) == np.arange(500)) >= 0.95  # the attack works
    safe = np.stack([rotate(number, row) for number, row in enumerate(standardise(vectors))])
    found = [np.abs(np.linalg.norm(vectors, axis=1) - norm).argmin() for norm in np.linalg.norm(safe, axis=1)]
    assert np.mean(np.array(found) == np.arange(500)) <= 0.02


def test_a_known_pair_says_nothing_about_the_next_face():
    first, second = draws(2, 4096)
    published = flip(0, first)
    guessed = np.sign(first * published)
    assert cosine(guessed * flip(0, second), second) > 0.99  # a reused sign key falls at once
    published = rotate(0, first)
    guessed = np.sign(first * published)
    assert abs(cosine(guessed * rotate(1, second), second)) <= 5 / np.sqrt(4096)


def test_it_shows_nothing():
    assert repr(Rotation(RAW_KEY, 8)) == "<Rotation of 8 coordinates>"
