"""Multi-scale image inversion: tokens of every stage out of features of the picture at five scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .inversion import StageTokens
from .schedule import NUM_STAGES

NUM_SCALES = 5
HIDDEN = 256
HEADS = 4
OUTPUT_STD = 0.02
"""Spread of the last layer's weights: the first tokens are almost the given ones, and yet every weight has a gradient."""


class MsiModule(nn.Module):
    """Image features of one face to its tokens at every stage.

    Each stage asks one scale: the shallow features at low noise, the deep ones at high noise.
    Learned queries, scaled by a gate of the stage, attend to all tokens of that scale.

    Args:
        channels: Width of the features at each scale, shallow to deep.
        start: (n, D) tokens by encoder, to which the output is added.
        num_stages: Stages K.
        generator: Source of the first weights.

    Source: Diff-Privacy (arXiv 2309.05330), multi-scale image inversion module.
    Deviations: the released module attends from one token to itself, so that its softmax is 1 and
        22 % of its parameters never get a gradient. Here queries attend to all patches, several
        tokens come out, the blocks are residual, and nothing is random in evaluation.
    Laws: test_every_parameter_gets_a_gradient, test_two_calls_are_equal.
    """

    def __init__(
        self, channels: Sequence[int], start: Mapping[str, Tensor], num_stages: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.num_stages = num_stages
        count = max(len(tokens) for tokens in start.values())
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in channels)
        self.projections = nn.ModuleList(nn.Linear(width, HIDDEN) for width in channels)
        self.queries = nn.Parameter(torch.empty(count, HIDDEN))
        self.gates = nn.Parameter(torch.empty(num_stages, 1, HIDDEN))
        self.query_norm = nn.LayerNorm(HIDDEN)
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(HIDDEN, HIDDEN, bias=False)  # a bias of keys moves no softmax
        self.value = nn.Linear(HIDDEN, HIDDEN)
        self.attended = nn.Linear(HIDDEN, HIDDEN)
        self.head = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN))
        self.output_norm = nn.LayerNorm(HIDDEN)
        self.outputs = nn.ModuleDict({name: nn.Linear(HIDDEN, tokens.shape[1]) for name, tokens in start.items()})
        self.start = {name: tokens.detach().clone() for name, tokens in start.items()}
        self._fill(generator)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute tokens.

        Args:
            features: (T, C) at each scale, shallow to deep.

        Returns:
            (K, n, D) by encoder.
        """
        owners = [k * len(features) // self.num_stages for k in range(self.num_stages)]
        found = []
        for scale, (norm, projection) in enumerate(zip(self.norms, self.projections, strict=True)):
            gates = self.gates[[k for k, owner in enumerate(owners) if owner == scale]]
            found.append(self._attend(self.queries * gates, projection(norm(features[scale]))))
        h = torch.cat(found)
        h = self.output_norm(h + self.head(h))
        return {name: start + self.outputs[name](h[:, : len(start)]) for name, start in self.start.items()}

    def _attend(self, q: Tensor, context: Tensor) -> Tensor:
        """Let the queries (m, n, d) of all stages of a scale attend to its tokens (T, d)."""
        heads = [
            part.unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for part in (self.query(self.query_norm(q)).flatten(0, 1), self.key(context), self.value(context))
        ]
        found = F.scaled_dot_product_attention(*heads)
        return q + self.attended(found.transpose(0, 1).flatten(1)).view_as(q)

    def _fill(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * module.in_features**-0.5)
                    if module.bias is not None:
                        module.bias.zero_()
            for output, tokens in zip(self.outputs.values(), self.start.values(), strict=True):
                output.weight.mul_(OUTPUT_STD * float(tokens.std()))
            self.queries.copy_(torch.randn(self.queries.shape, generator=generator))
            self.gates.copy_(1.0 + 0.1 * torch.randn(self.gates.shape, generator=generator))


class MsiTokens(nn.Module):
    """Tokens of N faces, each by a module of its own that sees the face's features.

    Args:
        features: (N, T, C) at each of five scales, shallow to deep; from a real picture.
        start: (n, D) tokens by encoder to begin with.
        seeds: One for each face, for the first weights.
        num_stages: Stages K.

    Raises:
        InputError: The features are not (N, T, C) at five scales, or are the same everywhere.
    """

    relative_rate = 0.1

    def __init__(
        self, features: Sequence[Tensor], start: Mapping[str, Tensor], seeds: Sequence[int], num_stages: int = NUM_STAGES
    ) -> None:
        super().__init__()
        shapes = [tuple(scale.shape) for scale in features]
        if len(features) != NUM_SCALES or any(len(shape) != 3 or shape[0] != len(seeds) for shape in shapes):
            raise InputError(f"Expected features ({len(seeds)}, T, C) at {NUM_SCALES} scales, got {shapes}.")
        if any(not bool((scale.std(dim=1).amax(dim=-1) > 0).all()) for scale in features):
            raise InputError("Expected features of a picture, got the same at every place. Check what the vision model sees.")
        self.features = [scale.detach().float() for scale in features]
        channels = [shape[2] for shape in shapes]
        self.faces = nn.ModuleList(
            MsiModule(channels, start, num_stages, torch.Generator().manual_seed(seed % 2**63)) for seed in seeds
        )
        self.to(features[0].device)

    def forward(self) -> dict[str, StageTokens]:
        results = [module([scale[i] for scale in self.features]) for i, module in enumerate(self.faces)]
        return {name: StageTokens(torch.stack([tokens[name] for tokens in results], dim=1)) for name in results[0]}
