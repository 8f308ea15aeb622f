"""Text encoders behind the contract: an empty prompt, or learned vectors in place of its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..model import Condition
from .families import END, FACE, START, TextShape


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """One text encoder, frozen.

    Attributes:
        network: A CLIPTextModel of transformers, or one with a projection.
        shape: How it is told and read.
    """

    network: nn.Module
    shape: TextShape

    @property
    def words(self) -> nn.Module:
        """The table of words."""
        return self.network.get_input_embeddings()

    @property
    def room(self) -> int:
        """Words between beginning and end."""
        return int(self.network.config.max_position_embeddings) - 2

    def prompt(self, words: list[int]) -> list[int]:
        """Return the numbers of a prompt, filled up."""
        return [START, *words, END, *[self.shape.pad] * (self.room - len(words))]

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode vectors (B, n, D) in place of words; n = 0 is the empty prompt.

        Returns:
            (B, L, D) tokens and, where it has a projection, (B, P).
        """
        count = vectors.shape[1]
        ids = torch.tensor([self.prompt([FACE] * count)] * len(vectors), device=vectors.device)

        def put_in(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return torch.cat([output[:, :1], vectors.to(output.dtype), output[:, 1 + count :]], dim=1)

        hook = self.words.register_forward_hook(put_in)
        try:
            found = self.network(input_ids=ids, output_hidden_states=True)
        finally:
            hook.remove()
        states = found.last_hidden_state if self.shape.last else found.hidden_states[-2]
        return states, found.text_embeds if self.shape.pooled else None


class Words:
    """The space of learned words of a checkpoint.

    Args:
        encoders: By short name; their tokens are put side by side.
    """

    def __init__(self, encoders: Mapping[str, TextEncoder]) -> None:
        self.encoders = dict(encoders)

    def empty(self) -> Condition:
        """Return the condition of the empty prompt."""
        return self.condition({name: self._table(name)[:0][None] for name in self.encoders})

    def face(self) -> Condition:
        """Return the condition of the word "face"."""
        return self.condition({name: vectors[None] for name, vectors in self.first(1).items()})

    def first(self, count: int) -> dict[str, Tensor]:
        """Return the word "face" `count` times, (n, D) float32 by encoder.

        Raises:
            InputError: A prompt has no room for so many.
        """
        room = min(encoder.room for encoder in self.encoders.values())
        if not 1 <= count <= room:
            raise InputError(f"Expected 1 to {room} tokens per stage, got {count}. The text encoder reads no more.")
        return {name: self._table(name)[FACE].detach().float().expand(count, -1).clone() for name in self.encoders}

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Encode vectors (B, n, D) by encoder; gradients pass."""
        if set(tokens) != set(self.encoders):
            raise InputError(
                f"Expected tokens for the text encoders {', '.join(self.encoders)}, got tokens for {', '.join(tokens)}. Use "
                "the file as it was written, with its model."
            )
        found = [encoder(tokens[name]) for name, encoder in self.encoders.items()]
        pooled = [part for _, part in found if part is not None]
        return Condition(torch.cat([states.float() for states, _ in found], dim=-1), pooled[0].float() if pooled else None)

    def _table(self, name: str) -> Tensor:
        return self.encoders[name].words.weight
