"""Thresholds, rates and their confidence intervals from similarities of faces of known people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
CONFIDENCE = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of pictures of some faces.

    Attributes:
        similarities: (P,) cosine of each pair.
        first, second: (P,) index of the person of each side.
        num_people: People behind them.
    """

    similarities: Floats
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    num_people: int

    @property
    def is_genuine(self) -> NDArray[np.bool_]:
        """(P,) whether both sides show one person."""
        return self.first == self.second

    @property
    def impostors(self) -> Floats:
        return self.similarities[~self.is_genuine]

    @property
    def genuine(self) -> Floats:
        return self.similarities[self.is_genuine]


def pair_up(embeddings: Floats, people: NDArray[np.intp]) -> Pairs:
    """Compare every picture with every other one.

    Args:
        embeddings: (N, D) rows of length 1.
        people: (N,) index of the person from 0.
    """
    rows, columns = np.triu_indices(len(people), 1)
    similarities = (embeddings @ embeddings.T)[rows, columns].astype(np.float64)
    return Pairs(similarities, people[rows], people[columns], int(people.max()) + 1)


def join(a: Pairs, b: Pairs) -> Pairs:
    """Put the pairs of two groups that share nobody together; those across the groups are left out."""
    sides = (np.concatenate([x, y + a.num_people]) for x, y in ((a.first, b.first), (a.second, b.second)))
    return Pairs(np.concatenate([a.similarities, b.similarities]), *sides, a.num_people + b.num_people)


def threshold_at(impostors: Floats, fmr: float) -> float:
    """Return the smallest similarity that at most a part `fmr` of the impostor pairs reaches."""
    ordered = np.sort(impostors)[::-1]
    return float(np.nextafter(ordered[int(np.floor(fmr * len(ordered)))], 2.0))


def rate_at(impostors: Floats, threshold: float) -> float:
    """Return the part of impostor pairs that count as one person."""
    return float((impostors >= threshold).mean())


def misses_at(genuine: Floats, threshold: float) -> float:
    """Return the part of genuine pairs that do not count as one person."""
    return float((genuine < threshold).mean())


def threshold_interval(pairs: Pairs, fmr: float, draws: int = DRAWS) -> tuple[float, float]:
    """Return the interval in which 95 % of thresholds fall when the people are drawn anew.

    People and not pairs are drawn, with replacement: pairs share people, so they say less than as many independent ones.
    """
    impostor = ~pairs.is_genuine
    order = np.argsort(pairs.similarities[impostor])[::-1]
    similarities, first, second = (part[impostor][order] for part in (pairs.similarities, pairs.first, pairs.second))

    def threshold(counts: NDArray[np.intp]) -> float:
        reached = np.cumsum(counts[first] * counts[second])
        place = int(np.searchsorted(reached, np.floor(fmr * reached[-1]), side="right"))
        return float(similarities[min(place, len(similarities) - 1)])

    return _interval([threshold(counts) for counts in _draws(pairs.num_people, draws)])


def rate_interval(pairs: Pairs, threshold: float, *, genuine: bool, draws: int = DRAWS) -> tuple[float, float]:
    """Return the 95 % interval of a rate (of impostor pairs that match, or of genuine ones that do not), people drawn anew.

    Where no pair is wrong, drawing anew finds none either: the interval then ends where as many people as there are would
    show none in 5 % of cases (the rule of three).
    """
    chosen = pairs.is_genuine == genuine
    first, second = pairs.first[chosen], pairs.second[chosen]
    wrong = (pairs.similarities[chosen] < threshold) if genuine else (pairs.similarities[chosen] >= threshold)

    if not wrong.any():
        return 0.0, 1.0 - (1.0 - CONFIDENCE) ** (1.0 / pairs.num_people)

    def rate(counts: NDArray[np.intp]) -> float:
        weights = counts[first] if genuine else counts[first] * counts[second]
        return float((weights * wrong).sum() / max(weights.sum(), 1))

    return _interval([rate(counts) for counts in _draws(pairs.num_people, draws)])


def _draws(num_people: int, draws: int) -> list[NDArray[np.intp]]:
    """Return how often each person is drawn, the same draws in every call."""
    generator = np.random.default_rng(0)
    return [np.bincount(generator.integers(0, num_people, num_people), minlength=num_people) for _ in range(draws)]


def _interval(values: list[float]) -> tuple[float, float]:
    outside = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(values, [outside, 1.0 - outside])
    return float(low), float(high)
