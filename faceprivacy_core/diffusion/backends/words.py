"""Text encoders behind the contract: an empty prompt, or learned vectors in place of its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..model import Condition
from .families import T5_LENGTH, TextShape

Join = Callable[[Sequence[Tensor]], Tensor]


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
        """The table of words, as the network looks them up; that of T5 is a copy with the same weights."""
        inside = getattr(getattr(self.network, "encoder", None), "embed_tokens", None)
        return self.network.get_input_embeddings() if inside is None else inside

    @property
    def room(self) -> int:
        """Words between beginning and end."""
        length = getattr(self.network.config, "max_position_embeddings", T5_LENGTH)
        return int(length) - len(self.shape.start) - 1

    def prompt(self, words: list[int]) -> list[int]:
        """Return the numbers of a prompt, filled up."""
        return [*self.shape.start, *words, self.shape.end, *[self.shape.pad] * (self.room - len(words))]

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode vectors (B, n, D) in place of words; n = 0 is the empty prompt.

        Returns:
            (B, L, D) tokens and, where it has a projection, (B, P).
        """
        count, first = vectors.shape[1], len(self.shape.start)
        ids = torch.tensor([self.prompt([self.shape.face] * count)] * len(vectors), device=vectors.device)

        def put_in(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return torch.cat([output[:, :first], vectors.to(output.dtype), output[:, first + count :]], dim=1)

        hook = self.words.register_forward_hook(put_in)
        try:
            found = self.network(input_ids=ids, output_hidden_states=True)
        finally:
            hook.remove()
        states = found.last_hidden_state if self.shape.last else found.hidden_states[-2]
        if not self.shape.pooled:
            return states, None
        return states, found.text_embeds if self.shape.projected else found.pooler_output


def side_by_side(states: Sequence[Tensor]) -> Tensor:
    """Put what encoders say of every word side by side."""
    return torch.cat(list(states), dim=-1)


def last_alone(states: Sequence[Tensor]) -> Tensor:
    """Take what the last encoder says; the others give the second part of the condition."""
    return states[-1]


def without_t5(width: int) -> Join:
    """Widen what two encoders say side by side to `width`, followed by the silence of a third one that is left out."""

    def join(states: Sequence[Tensor]) -> Tensor:
        both = side_by_side(states)
        both = nn.functional.pad(both, (0, width - both.shape[-1]))
        return torch.cat([both, torch.zeros_like(both)], dim=1)

    return join


class Words:
    """The space of learned words of a checkpoint.

    Args:
        encoders: By short name.
        join: Makes the tokens (B, L, D) told of what the encoders say, in their order; None puts it side by side.
    """

    def __init__(self, encoders: Mapping[str, TextEncoder], join: Join | None = None) -> None:
        self.encoders, self.join = dict(encoders), join or side_by_side

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
        return {
            name: self._table(name)[encoder.shape.face].detach().float().expand(count, -1).clone()
            for name, encoder in self.encoders.items()
        }

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Encode vectors (B, n, D) by encoder; gradients pass."""
        if set(tokens) != set(self.encoders):
            raise InputError(
                f"Expected tokens for the text encoders {', '.join(self.encoders)}, got tokens for {', '.join(tokens)}. Use "
                "the file as it was written, with its model."
            )
        found = [encoder(tokens[name]) for name, encoder in self.encoders.items()]
        pooled = [part for _, part in found if part is not None]
        tokens = self.join([states.float() for states, _ in found])
        return Condition(tokens, torch.cat(pooled, dim=-1).float() if pooled else None)

    def _table(self, name: str) -> Tensor:
        return self.encoders[name].words.weight
