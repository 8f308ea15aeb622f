"""Image tokens that may depend on the stage of the noise.

With one stage this is `faceprivacy_core.builtin.tokens.TokenHead`, parameter by parameter. With
several, a residual head that knows the stage is added: early stages, near pure noise, can ask
for layout, late ones for texture. Every parameter gets a gradient; a stage's head starts as the
identity, so all stages begin alike.

Source of the idea: Diff-Privacy (He et al. 2023, arXiv 2309.05330), multi-scale image inversion.
Deviations: the picture itself is encoded, all faces in one pass and none optimised one by one;
several tokens instead of one; residual heads instead of attention over a single key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceprivacy_core.builtin.tokens import TokenConfig, TokenHead
from faceprivacy_core.embeddings.schedule import TRAIN_STEPS

RANK = 64


class StagedTokenHead(TokenHead):
    """Pooled features (B, L, C) and stages (B,) to tokens (B, L, width).

    Args:
        config: Shape of the head.
        stages: Equal parts K of the time axis, stage 0 at the clean end.
    """

    def __init__(self, config: TokenConfig, stages: int) -> None:
        super().__init__(config)
        self.stages = stages
        nn.init.normal_(self.pos, std=0.02)
        nn.init.normal_(self.null, std=0.02)
        if stages > 1:
            self.down = nn.Linear(config.width, RANK)
            self.stage = nn.Embedding(stages, RANK)
            self.up = nn.Linear(RANK, config.width)
            nn.init.normal_(self.stage.weight, std=1.0)
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def from_pooled(self, pooled: Tensor, stage: Tensor) -> Tensor:
        """Compute tokens of pooled features, one stage for each item."""
        tokens = self.p((pooled - self.feature_mean) / self.feature_std) + self.pos
        if self.stages > 1:
            tokens = tokens + self.up(F.silu(self.down(tokens) + self.stage(stage)[:, None]))
        return self.n(tokens)

    def all_stages(self, pooled: Tensor) -> Tensor:
        """Compute tokens for every stage, (K, B, L, width)."""
        index = torch.arange(self.stages, device=pooled.device)
        return torch.stack([self.from_pooled(pooled, stage.expand(len(pooled))) for stage in index])


def stages_of(timesteps: Tensor, stages: int) -> Tensor:
    """Return the stage of every training timestep, as `embeddings.schedule.stage_of` does."""
    return (timesteps * stages // TRAIN_STEPS).clamp(max=stages - 1)
