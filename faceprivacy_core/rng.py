"""Seeded noise that does not depend on batch size, device or global state."""

from __future__ import annotations

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
