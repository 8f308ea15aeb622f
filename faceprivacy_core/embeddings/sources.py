"""What is learned: parameters, and the stage tokens they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from .inversion import StageTokens


class TokenSource(Protocol):
    """Parameters that stand for stage tokens of N faces.

    Parameters of different faces never meet, so that a batch learns what its faces learn alone.

    Attributes:
        relative_rate: Learning rate of the parameters relative to that of free tokens.
    """

    relative_rate: float

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def __call__(self) -> dict[str, StageTokens]:
        """Return the tokens by encoder; gradients pass from the offsets to the parameters."""
        ...


class FreeTokens(nn.Module):
    """Tokens that are parameters themselves; with a base, the base and the offsets to it.

    Args:
        start: Tokens to begin with, by encoder.
    """

    relative_rate = 1.0

    def __init__(self, start: Mapping[str, StageTokens]) -> None:
        super().__init__()
        self.offsets = nn.ParameterDict({name: nn.Parameter(tokens.offsets.detach().clone()) for name, tokens in start.items()})
        self.bases = nn.ParameterDict(
            {name: nn.Parameter(tokens.base.detach().clone()) for name, tokens in start.items() if tokens.base is not None}
        )

    def forward(self) -> dict[str, StageTokens]:
        bases = dict(self.bases.items())
        return {name: StageTokens(offsets, bases.get(name)) for name, offsets in self.offsets.items()}


def refined_tokens(base: Tensor, num_stages: int) -> StageTokens:
    """Begin a refinement of tokens (N, L, D): one offset of zero for each stage."""
    return StageTokens(base.new_zeros(num_stages, base.shape[0], 1, base.shape[2]), base.detach().clone())


def repeated_tokens(start: Tensor, num_stages: int, num_faces: int) -> StageTokens:
    """Begin with the same tokens (n, D) at every stage of every face."""
    return StageTokens(start.detach().expand(num_stages, num_faces, -1, -1).clone())


def with_stages(tokens: StageTokens, num_stages: int) -> StageTokens:
    """Give tokens of one stage to all stages; tokens of `num_stages` stages stay as they are."""
    if tokens.offsets.shape[0] == num_stages:
        return tokens
    return StageTokens(torch.cat([tokens.offsets] * num_stages), tokens.base)
