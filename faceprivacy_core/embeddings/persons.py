"""What a model is told of given persons: tokens it reads off a picture, tokens that are learned, or a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.model import Capability, LatentModel, ModelIdentity
from ..errors import InputError
from .denoising import Lesson
from .inversion import FaceInversion, StageTokens
from .learning import LearningReport, LearningSettings, TokenLearner
from .schedule import NUM_STAGES
from .sources import FreeTokens, refined_tokens, repeated_tokens

DEFAULT_UPDATES = 200
"""Updates where tokens must be learned and nobody says how many."""
RATES = {"unet": 0.05}
TEXT_RATE = 5e-3
"""As textual inversion takes it: the words of a text encoder are small, about 0.01 an element. `RATES` was measured."""
LATENT_VALUES = 4 * 64 * 64 * 4
"""Latent values in one call of the model while learning: 4 crops of 512 pixels of SD 1.x, 1 of 1024 of SDXL."""


@dataclass(frozen=True)
class TokenSettings:
    """How tokens of a person are found.

    Attributes:
        updates: Learning updates at most. None reads the tokens off the picture where the model can, and learns
            `DEFAULT_UPDATES` where it cannot. 0 learns nothing: such a model is told the word "face" alone.
        count: Learned tokens at each of ten noise stages, where there are none to begin with.
    """

    updates: int | None = None
    count: int = 2

    def __post_init__(self) -> None:
        if (self.updates is not None and self.updates < 0) or self.count < 1:
            raise InputError(f"Expected updates of at least 0 and at least one token, got {self.updates} and {self.count}.")

    def updates_for(self, model: LatentModel) -> int:
        """Return how many updates a model gets."""
        if self.updates is not None:
            return self.updates
        return 0 if Capability.IMAGE_TOKENS in model.capabilities else DEFAULT_UPDATES


def find_tokens(
    model: LatentModel,
    latents: Tensor,
    seeds: Sequence[int],
    settings: TokenSettings,
    *,
    progress: Callable[[LearningReport], None] | None = None,
) -> dict[str, StageTokens]:
    """Find tokens under which a model draws given faces again.

    Args:
        model: Any.
        latents: (N, C, h, w) clean latents of the faces.
        seeds: One for each face; a face's tokens depend on its own seed alone.
        settings: How.
        progress: Told every update; may raise to cancel.

    Returns:
        Tokens by encoder, on the model's device.

    Raises:
        NumericalError: Learning left the finite numbers.

    Law: a batch finds what its faces find alone.
    """
    updates = settings.updates_for(model)
    if Capability.IMAGE_TOKENS in model.capabilities:
        with torch.no_grad():
            read = model.read_tokens(latents)
        if updates == 0:
            return {name: _alike(tokens) for name, tokens in read.items()}
        start = {name: refined_tokens(tokens, NUM_STAGES) for name, tokens in read.items()}
    else:
        first = {name: tokens.to(latents.device) for name, tokens in model.first_tokens(settings.count).items()}
        if updates == 0:
            return {name: repeated_tokens(tokens[:1], 1, len(latents)) for name, tokens in first.items()}
        start = {name: repeated_tokens(tokens, NUM_STAGES, len(latents)) for name, tokens in first.items()}
    micro_batch = max(1, min(len(latents) * NUM_STAGES, LATENT_VALUES // latents[0].numel()))
    rate = max(RATES.get(name, TEXT_RATE) for name in start)
    with torch.inference_mode(False):
        clean = latents.detach().clone().float()
        task = Lesson(model.denoise, model.condition, model.schedule, clean, seeds, micro_batch=micro_batch)
        learner = TokenLearner(task, FreeTokens(start), LearningSettings(updates, rate))
        return dict(learner.run(progress).best)


def told_of(model: LatentModel, tokens: Mapping[str, StageTokens], identity: ModelIdentity | None = None) -> FaceInversion:
    """Turn tokens into what the model is told at every stage.

    Args:
        model: The model the tokens are for.
        tokens: By encoder, of N faces.
        identity: Of the model, where the inversion is to be kept; None names it.
    """
    stacked = {name: entry.stacked().to(model.device) for name, entry in tokens.items()}
    num_stages = len(next(iter(stacked.values())))
    with torch.no_grad():
        made = [model.condition({name: part[k] for name, part in stacked.items()}) for k in range(num_stages)]
    pooled = [one.pooled.float() for one in made if one.pooled is not None]
    return FaceInversion(
        torch.stack([one.tokens.float() for one in made]), model.empty.tokens.float(), identity or ModelIdentity(model.name),
        torch.stack(pooled) if pooled else None, None if model.empty.pooled is None else model.empty.pooled.float(), tokens,
    )  # fmt: skip


def _alike(tokens: Tensor) -> StageTokens:
    """Let tokens (N, L, D) serve every noise level."""
    return StageTokens(tokens.new_zeros(1, tokens.shape[0], 1, tokens.shape[2]), tokens)
