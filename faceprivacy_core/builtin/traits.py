"""Apparent traits of a face, read off its latent by one weight for each number."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WOMAN = "woman"


@dataclass(frozen=True, eq=False)
class TraitReader:
    """A line through the latents of many generated faces: those that have a trait lie above 0.

    Attributes:
        weight: (C, h, w), 0 in cells that are not looked at.
        bias: (1,).
    """

    weight: Tensor
    bias: Tensor

    def read(self, latents: Tensor) -> Tensor:
        """Say of latents (N, C, h, w) how surely the trait is there, (N,) in [0, 1], 0.5 in doubt."""
        score = (latents.flatten(1) @ self.weight.flatten()) + self.bias
        return ((score + 1.0) / 2.0).clamp(0.0, 1.0)
