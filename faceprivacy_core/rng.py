"""Seeded noise that does not depend on batch size, device or global state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

SEED_LIMIT = 2**63


def seeded_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Draw unit Gaussian noise on the CPU, one seed per item.

    Args:
        seeds: One integer for each item of the batch.
        shape: Shape of one item.

    Returns:
        (len(seeds), *shape) float32. Item i depends on seeds[i] alone.
    """
    items = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % SEED_LIMIT)
        items.append(torch.randn(shape, generator=generator))
    return torch.stack(items)


def face_seed(seed: int, face_index: int, variant: int = 0) -> int:
    """Derive the seed of one result from the user's seed.

    Faces are counted within their image, so an image gives the same result alone and in a
    batch. Variants of one face get seeds of their own.
    """
    return (seed + 1_000_003 * face_index + 7_368_787 * variant) % SEED_LIMIT


def face_seeds(seed: int, image_indices: Sequence[int], variants: int = 1) -> list[int]:
    """Derive the seeds of all results of a batch.

    Args:
        seed: The user's.
        image_indices: Of every face, the picture it is in.
        variants: Results for each face.

    Returns:
        One `face_seed` for each result, variant by variant.
    """
    counts: Counter[int] = Counter()
    numbers = []
    for index in image_indices:
        numbers.append(counts[index])
        counts[index] += 1
    return [face_seed(seed, number, variant) for variant in range(variants) for number in numbers]
