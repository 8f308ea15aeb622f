"""Signs, permutations and Gaussians from a secret: the same on every machine.

Source: ChaCha20 (RFC 8439) of the `cryptography` package; expansion to variates is integer
arithmetic, so no library of floating-point functions can change a bit of it.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

TABLE_BITS = 16


class Keystream:
    """Variates drawn one after the other from a ChaCha20 keystream.

    Args:
        key: 32 bytes, used for this one stream only. A public value gives public variates.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def __repr__(self) -> str:
        return "<Keystream>"

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return self._cipher.update(bytes(count))

    def signs(self, count: int) -> NDArray[np.float64]:
        """Draw `count` independent signs, -1 or 1: one bit each, lowest bit of a byte first."""
        packed = np.frombuffer(self.take((count + 7) // 8), np.uint8)
        return 1.0 - 2.0 * np.unpackbits(packed, count=count, bitorder="little")

    def permutation(self, count: int) -> NDArray[np.intp]:
        """Draw a permutation of `count` items: the order of as many 64-bit numbers."""
        return np.argsort(np.frombuffer(self.take(8 * count), "<u8"), kind="stable")

    def normals(self, count: int) -> NDArray[np.float64]:
        """Draw `count` standard normals, rounded to quantiles of a table of 65,536.

        Variance 0.99998, largest magnitude 4.32.
        """
        return _NORMAL_TABLE[np.frombuffer(self.take(2 * count), "<u2")]


def _normal_table() -> NDArray[np.float64]:
    """Quantiles at the centres of 2^16 equal parts, rounded to multiples of 2^-16."""
    size = 2**TABLE_BITS
    lower = [round(NormalDist().inv_cdf((i + 0.5) / size) * size) for i in range(size // 2)]
    half = np.array(lower, np.float64) / size
    return np.concatenate([half, -half[::-1]])


_NORMAL_TABLE = _normal_table()
