"""A keyed orthogonal map: hides every coordinate and magnitude, keeps Gaussian noise Gaussian.

Q = D (P H" D" H' D')^3 with secret signs D and permutations P, all different, and public
Hadamard transforms H' of the first 2^m coordinates and H" of the last. Q is orthogonal, so
errors on the way are not amplified by its inverse.

Source: structured orthogonal random features (Yu et al. 2016), three rounds; in place of the
sign flip of arXiv 2510.01031, eq. 6, which leaves the magnitude of every coordinate readable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .keystream import Keystream

ROUNDS = 3
"""With fewer, a vector with one large coordinate still shows after the map."""

Vector = NDArray[np.float64]


class Rotation:
    """A secret rotation of vectors with `size` coordinates. Never use one for two vectors.

    Args:
        key: 32 secret bytes, fresh for every face.
        size: Number of coordinates, at least 1.
        rounds: Repetitions of signs, Hadamard transform and permutation.
    """

    __slots__ = ("_orders", "_pairs", "_signs", "size")

    def __init__(self, key: bytes, size: int, rounds: int = ROUNDS) -> None:
        stream = Keystream(key)
        self.size = size
        self._pairs = [(stream.signs(size), stream.signs(size)) for _ in range(rounds)]
        self._orders = [stream.permutation(size) for _ in range(rounds)]
        self._signs = stream.signs(size)

    def __repr__(self) -> str:
        return f"<Rotation of {self.size} coordinates>"

    def apply(self, vector: Vector) -> Vector:
        """Rotate (size,) float64."""
        block = 1 << (self.size.bit_length() - 1)
        for (first, second), order in zip(self._pairs, self._orders, strict=True):
            # Without signs in between, the second transform would undo a part of the first.
            mixed = vector * first
            mixed[:block] = _hadamard(mixed[:block])
            mixed *= second
            mixed[-block:] = _hadamard(mixed[-block:])
            vector = mixed[order]
        return vector * self._signs

    def invert(self, vector: Vector) -> Vector:
        """Undo `apply`; exact to rounding, about 1e-15."""
        block = 1 << (self.size.bit_length() - 1)
        vector = vector * self._signs
        for (first, second), order in zip(self._pairs[::-1], self._orders[::-1], strict=True):
            mixed = np.empty_like(vector)
            mixed[order] = vector
            mixed[-block:] = _hadamard(mixed[-block:])
            mixed *= second
            mixed[:block] = _hadamard(mixed[:block])
            vector = mixed * first
        return vector


def _hadamard(vector: Vector) -> Vector:
    """Normalised Walsh-Hadamard transform of 2^m coordinates; its own inverse."""
    size, half = len(vector), 1
    while half < size:
        pairs = vector.reshape(-1, 2, half)
        vector = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(size)
        half *= 2
    return vector / np.sqrt(size)
