"""How far the layout of a face has moved: the distance of its self-attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError


def structure_distance(maps: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """Compare the self-attention maps of two runs.

    L = sum over layers of the mean over heads and positions of (A - A_ref)^2.

    Args:
        maps: One (B, heads, N, N) tensor per layer.
        references: The same of the run that is not attacked; no gradient.

    Returns:
        (B,), exactly 0 for equal maps.

    Raises:
        InputError: The layers differ in number or shape.

    Source: arXiv 2503.10350, structure preservation.
    """
    if [part.shape for part in maps] != [part.shape for part in references] or not maps:
        raise InputError(
            f"Expected the same self-attention layers as in the reference run, {[tuple(p.shape) for p in references]}, "
            f"got {[tuple(p.shape) for p in maps]}."
        )
    pairs = zip(maps, references, strict=True)
    return torch.stack([(found - kept.detach()).pow(2).flatten(1).mean(dim=1) for found, kept in pairs]).sum(dim=0)
