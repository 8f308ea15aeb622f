"""Where stage tokens live, and the conditions that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import comfy.model_patcher
import torch
from torch import Tensor

from ..faceprivacy_core.diffusion.model import Condition
from ..faceprivacy_core.embeddings.inversion import StageTokens
from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.inversions.stored import Conditions


class TokenSpace(Protocol):
    """A way from tokens to conditions of the host.

    Attributes:
        empty: The empty condition, of a batch of 1.
        models: What must be loaded while conditions are made.
        learning_rate: Rate at which tokens are learned well.
    """

    empty: Condition
    learning_rate: float

    @property
    def models(self) -> Sequence[comfy.model_patcher.ModelPatcher]: ...

    def start(self, count: int) -> dict[str, Tensor]:
        """Return `count` tokens to begin with, (n, D) float32 by encoder."""
        ...

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Turn tokens (B, n, D) by encoder into the condition of a batch of B."""
        ...


class UnetTokens:
    """The space of tokens that go straight into cross-attention: the built-in face model's.

    Args:
        empty: (1, L, D) the empty condition.
    """

    models: Sequence[comfy.model_patcher.ModelPatcher] = ()
    learning_rate = 0.05
    """Measured: the held-out loss falls twice as far in 50 updates as at 0.01 (benchmarks/msi.py)."""

    def __init__(self, empty: Tensor) -> None:
        self.empty = Condition(empty.detach().clone())

    def start(self, count: int) -> dict[str, Tensor]:
        """Return the first tokens of the empty condition, (n, D).

        Raises:
            InputError: It has fewer.
        """
        room = self.empty.tokens.shape[1]
        if not 1 <= count <= room:
            raise InputError(f"Expected 1 to {room} tokens per stage for the built-in face model, got {count}.")
        return {"unet": self.empty.tokens[0, :count].clone()}

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Hand the tokens on."""
        return Condition(tokens["unet"])


def stage_conditions(space: TokenSpace, tokens: Mapping[str, StageTokens]) -> Conditions:
    """Turn stage tokens into conditions, float32 on the CPU.

    Args:
        space: Where the tokens live; need not be trainable.
        tokens: By encoder.
    """
    stacked = {name: entry.stacked() for name, entry in tokens.items()}
    num_stages = len(next(iter(stacked.values())))
    with torch.inference_mode(False), torch.no_grad():
        made = [space.condition({name: part[k].clone() for name, part in stacked.items()}) for k in range(num_stages)]
        stages = torch.stack([condition.tokens.float().cpu() for condition in made])
        pooled = [condition.pooled.float().cpu() for condition in made if condition.pooled is not None]
        empty_pooled = space.empty.pooled
        return Conditions(
            stages,
            space.empty.tokens.float().cpu(),
            torch.stack(pooled) if pooled else None,
            None if empty_pooled is None else empty_pooled.float().cpu(),
        )
