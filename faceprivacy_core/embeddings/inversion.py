"""What pictures of faces are turned into: stage embeddings and, if asked for, their noise maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..diffusion.model import Condition, ModelIdentity
from ..errors import InputError
from ..types import FaceCrops
from .schedule import stage_of

__all__ = ["FaceInversion", "ModelIdentity", "NoiseMap", "StageTokens", "inversion_of_tokens"]


@dataclass(frozen=True, eq=False)
class StageTokens:
    """Tokens of N faces at K stages: what all stages share, and what each adds.

    Attributes:
        offsets: (K, N, m, D), m = 1 for one offset to every token of the base, else m = L.
        base: (N, L, D) tokens of all stages; None where the offsets are the tokens themselves.
    """

    offsets: Tensor = field(repr=False)
    base: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        fits = self.base is None or (
            self.base.ndim == 3
            and self.base.shape[::2] == self.offsets.shape[1::2]
            and self.offsets.shape[2] in (1, self.base.shape[1])
        )
        if self.offsets.ndim != 4 or not fits:
            base = None if self.base is None else tuple(self.base.shape)
            raise InputError(f"Expected offsets (K, N, m, D) on a base (N, L, D), got {tuple(self.offsets.shape)} on {base}.")

    def stacked(self) -> Tensor:
        """Return the tokens of every stage, (K, N, L, D)."""
        return self.offsets if self.base is None else self.base + self.offsets


@dataclass(frozen=True, eq=False)
class NoiseMap:
    """The noise that deterministic sampling turns back into N faces.

    Attributes:
        latent: (N, C, h, w) at the highest noise level divided by that level, so of about unit
            variance, in the model's latent space.
        sigmas: The falling noise levels that were inverted, closed by 0; sampling must use them.
        residual: Worst relative residual of a step, see `diffusion.inversion.Inversion`.
    """

    latent: Tensor = field(repr=False)
    sigmas: tuple[float, ...] = field(repr=False)
    residual: float

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1


@dataclass(frozen=True, eq=False)
class FaceInversion:
    """Embeddings that make a model reproduce N faces. It brings them back, so it shows nothing when printed.

    Attributes:
        stages: (K, N, L, D) conditions for K equal parts of the time axis, stage 0 at the
            clean end. K = 1 serves every noise level alike.
        empty: (1, L', D) the model's empty condition.
        model: The model the embeddings belong to.
        pooled: (K, N, P) second part of the conditions, for SDXL; None elsewhere.
        empty_pooled: (1, P) the same of the empty condition.
        tokens: What was learned or encoded, by text encoder ("l", "g", "h") or "unet" where
            tokens go straight into cross-attention; the conditions follow from it, so this
            is what is saved. Empty when it is not to be saved.
        noise: Noise map; None when it was not asked for.
        crops: Where the faces lie in their pictures; None when it was not given.

    Source: Diff-Privacy (arXiv 2309.05330), multi-scale image inversion.
    """

    stages: Tensor = field(repr=False)
    empty: Tensor = field(repr=False)
    model: ModelIdentity
    pooled: Tensor | None = field(default=None, repr=False)
    empty_pooled: Tensor | None = field(default=None, repr=False)
    tokens: Mapping[str, StageTokens] = field(default_factory=dict, repr=False)
    noise: NoiseMap | None = None
    crops: FaceCrops | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.stages.ndim != 4 or self.empty.ndim != 3:
            shapes = f"{tuple(self.stages.shape)} and {tuple(self.empty.shape)}"
            raise InputError(f"Expected stages (K, N, L, D) and empty (1, L, D), got {shapes}.")
        counts = {"noise map": self.noise and len(self.noise.latent), "placement": self.crops and len(self.crops)}
        for name, count in counts.items():
            if count is not None and count != self.num_faces:
                raise InputError(f"Expected a {name} of {self.num_faces} faces, got one of {count}.")

    def to(self, device: torch.device | str) -> FaceInversion:
        """Return the inversion with its conditions and tokens on a device; noise map and placement stay where they are."""
        tokens = {
            name: StageTokens(entry.offsets.to(device), None if entry.base is None else entry.base.to(device))
            for name, entry in self.tokens.items()
        }
        pooled, empty_pooled = (None if part is None else part.to(device) for part in (self.pooled, self.empty_pooled))
        return replace(
            self, stages=self.stages.to(device), empty=self.empty.to(device), pooled=pooled, empty_pooled=empty_pooled,
            tokens=tokens,
        )  # fmt: skip

    @property
    def num_stages(self) -> int:
        return self.stages.shape[0]

    @property
    def num_faces(self) -> int:
        return self.stages.shape[1]

    def embedding_at(self, timestep: float) -> Tensor:
        """Return the conditions (N, L, D) that act at a training timestep."""
        return self.stages[stage_of(timestep, self.num_stages)]

    def condition_at(self, timestep: float, variants: int = 1) -> Condition:
        """Return what the model is told of the faces at a training timestep, (V * N, L, D), variant by variant."""
        pooled = None if self.pooled is None else self.pooled[stage_of(timestep, self.num_stages)].repeat(variants, 1)
        return Condition(self.embedding_at(timestep).repeat(variants, 1, 1), pooled)

    def empty_condition(self) -> Condition:
        """Return the model's empty condition."""
        return Condition(self.empty, self.empty_pooled)


def inversion_of_tokens(tokens: Tensor, empty: Tensor, model: ModelIdentity) -> FaceInversion:
    """Wrap feed-forward tokens (N, L, D), which serve every noise level, as an inversion."""
    offsets = torch.zeros(1, tokens.shape[0], 1, tokens.shape[2], dtype=tokens.dtype, device=tokens.device)
    return FaceInversion(tokens[None], empty, model, tokens={"unet": StageTokens(offsets, tokens)})
