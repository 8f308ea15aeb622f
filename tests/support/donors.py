"""A bank of donors from nothing, and settings for quick tests."""

from __future__ import annotations

import torch

from faceprivacy_core.align import FFHQ_TEMPLATE
from faceprivacy_core.builtin.donors import DonorBank


def random_bank(count: int = 6, names: tuple[str, ...] = ("a", "b"), width: int = 16, seed: int = 0) -> DonorBank:
    """Make a bank of noise: D donors of 32 x 16 x 16, half of them women, a third older."""
    random = torch.Generator().manual_seed(seed)
    template = torch.from_numpy(FFHQ_TEMPLATE).float()
    vectors = {name: torch.nn.functional.normalize(torch.randn(count, width, generator=random), dim=1) for name in names}
    return DonorBank(
        torch.randn(count, 32, 16, 16, generator=random),
        template + 0.01 * torch.randn(count, 5, 2, generator=random),
        torch.rand(count, 3, generator=random),
        vectors,
        torch.arange(count) % 2 == 0,
        torch.arange(count) % 3 == 0,
    )
