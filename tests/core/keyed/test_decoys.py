"""A decoy spares a viewer the error. It does not hide the key from somebody who tries many: no claim is made that it does."""

from __future__ import annotations

import numpy as np

from faceprivacy_core.keyed.derivation import derive_face_key
from faceprivacy_core.keyed.payloads import read_coarse_moments, write_coarse_moments
from faceprivacy_core.keyed.rotation import Rotation
from faceprivacy_core.keyed.sealing import seal_unmarked, unseal_unmarked
from faceprivacy_core.keyed.transports import Moments

SIZE, NONCE, HEADER = 500, bytes(16), b"header"
FACES, KEYS = 20, 200


def keys_of(face: int) -> list[bytes]:
    """Return the right key of a face, and wrong ones behind it."""
    numbers = np.random.default_rng(face)
    return [numbers.bytes(32) for _ in range(KEYS + 1)]


def oddness(raw: bytes, seen: np.ndarray, blob: bytes) -> float:
    """Say how unlike a face's noise a key's answer is: its mean is not 0, or its moments are unusual."""
    key = derive_face_key(raw, NONCE, HEADER)
    moments = read_coarse_moments(unseal_unmarked(key, HEADER, blob))
    mean = Rotation(key.subkey("rot"), SIZE).invert(seen).mean() * np.sqrt(SIZE)
    return float(mean**2 + (moments.mean / 0.05) ** 2 + ((moments.scale - 1.0) / 0.05) ** 2)


def test_the_right_key_can_be_told_from_wrong_ones():
    """A statistical distinguisher: of the wrong keys, few look as right as the right one."""
    shares = []
    for face in range(FACES):
        right, *wrong = keys_of(face)
        numbers = np.random.default_rng(1000 + face)
        key = derive_face_key(right, NONCE, HEADER)
        noise = numbers.normal(size=SIZE)
        standard = (noise - noise.mean()) / noise.std()
        # What is read off the pixels is not exact.
        seen = Rotation(key.subkey("rot"), SIZE).apply(standard) + 0.1 * numbers.normal(size=SIZE)
        blob = seal_unmarked(key, HEADER, write_coarse_moments(Moments(0.02 * numbers.normal(), 1 + 0.03 * numbers.normal())))
        rightness = oddness(right, seen, blob)
        shares.append(np.mean([oddness(other, seen, blob) <= rightness for other in wrong]))
    assert np.mean(shares) < 0.05
