"""What a picture is turned into: stage embeddings and, if asked for, its noise map."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .schedule import stage_of


@dataclass(frozen=True, eq=False)
class FaceInversion:
    """Embeddings that make a model reproduce N faces.

    Attributes:
        stages: (K, N, L, D) conditioning tokens for K equal parts of the time axis,
            stage 0 at the clean end. K = 1 serves every noise level alike.
        empty: (1, L, D) the model's empty condition.
        model_name: Model the embeddings belong to.

    Source: Diff-Privacy (arXiv 2309.05330), multi-scale image inversion.
    """

    stages: Tensor
    empty: Tensor
    model_name: str

    @property
    def num_stages(self) -> int:
        return self.stages.shape[0]

    @property
    def num_faces(self) -> int:
        return self.stages.shape[1]

    def embedding_at(self, timestep: float) -> Tensor:
        """Return the tokens (N, L, D) that act at a training timestep."""
        return self.stages[stage_of(timestep, self.num_stages)]
