"""Learning stage tokens inside the host: what is learned, live losses, going on after a cancel."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_patcher
import comfy.utils
import torch
from server import PromptServer
from torch import Tensor, nn

from ..faceprivacy_core.embeddings.curves import Axes, draw_curves
from ..faceprivacy_core.embeddings.denoising import Lesson
from ..faceprivacy_core.embeddings.inversion import StageTokens
from ..faceprivacy_core.embeddings.learning import LearningReport, LearningSettings, LearningState, TokenLearner
from ..faceprivacy_core.embeddings.msi import MsiTokens
from ..faceprivacy_core.embeddings.schedule import NUM_STAGES
from ..faceprivacy_core.embeddings.sources import FreeTokens, TokenSource, repeated_tokens, with_stages
from ..faceprivacy_core.protocols import Denoiser
from ..faceprivacy_core.rng import face_seed
from . import _host
from ._host_gradients import GradientModel
from ._host_levels import levels_of
from ._host_tokens import TokenSpace

PREVIEW_PX = 512
STAGES = ["stage 0", *map(str, range(1, NUM_STAGES))]
STAGE_AXES = Axes("look at the held-out error", "held-out error relative to the first", STAGES)
MICRO_BATCH_PIXELS = 4 * 64 * 64 * 4
"""Latent values in one call of the model: 4 crops of 512 pixels, 1 of 1024, 64 of the built-in model."""

_unfinished: WeakKeyDictionary[nn.Module, tuple[Hashable, LearningState]] = WeakKeyDictionary()
"""The last cancelled learning of each model, in memory only."""


class Strategy(str, Enum):
    """What is learned."""

    ENCODER = "encoder"
    STAGE_TOKENS = "stage tokens"
    MSI = "msi"


@dataclass(frozen=True)
class LearningRequest:
    """What the user asked for.

    Attributes:
        strategy: What is learned.
        steps: Updates at most.
        tokens_per_stage: Tokens of each stage, for stage tokens and msi.
        learning_rate: Of a free token's element; 0 takes the rate that suits the space.
        seed: Of draws and first weights.
    """

    strategy: Strategy
    steps: int
    tokens_per_stage: int
    learning_rate: float
    seed: int

    def seeds(self, count: int) -> list[int]:
        """Return one seed for each face."""
        return [face_seed(self.seed, face) for face in range(count)]


def make_source(
    request: LearningRequest,
    space: TokenSpace,
    start: dict[str, StageTokens] | None,
    features: list[Tensor] | None,
    count: int,
    device: torch.device,
) -> TokenSource:
    """Make what is learned, on a device.

    Args:
        request: What was asked for.
        space: Where new tokens come from.
        start: Tokens to go on from; None for new ones.
        features: Of the picture at five scales, for `msi`.
        count: Faces.
        device: Where the model computes.
    """
    if start is not None:
        return FreeTokens({name: _on(with_stages(tokens, NUM_STAGES), device) for name, tokens in start.items()})
    first = {name: tokens.to(device) for name, tokens in space.start(request.tokens_per_stage).items()}
    if features is not None:
        return MsiTokens([scale.to(device) for scale in features], first, request.seeds(count))
    return FreeTokens({name: repeated_tokens(tokens, NUM_STAGES, count) for name, tokens in first.items()})


def learn_in_host(
    model: comfy.model_patcher.ModelPatcher,
    space: TokenSpace,
    request: LearningRequest,
    latents: Tensor,
    start: dict[str, StageTokens] | None,
    features: list[Tensor] | None,
    key: Hashable,
    node_id: str | None,
) -> dict[str, StageTokens]:
    """Learn tokens of faces; a cancelled learning with the same key goes on where it stopped.

    Args:
        model: MODEL, untouched.
        space: Where the tokens live; trainable.
        request: What was asked for.
        latents: (N, C, h, w) in the model's space.
        start, features: See `make_source`.
        key: Of everything that decides the result.
        node_id: Of the node that shows the losses.

    Returns:
        The best tokens by encoder, on the CPU.
    """
    micro_batch = max(1, min(len(latents) * NUM_STAGES, MICRO_BATCH_PIXELS // latents[0].numel()))
    schedule = levels_of(model).schedule

    def job(denoiser: Denoiser, device: torch.device) -> LearningState:
        task = Lesson(
            denoiser, space.condition, schedule, latents.to(device), request.seeds(len(latents)), micro_batch=micro_batch
        )
        source = make_source(request, space, start, features, len(latents), device)
        known, state = _unfinished.pop(model.model, (None, None))
        settings = LearningSettings(request.steps, request.learning_rate or space.learning_rate)
        learner = TokenLearner(task, source, settings, state if known == key else None)
        view = LearningView(request.steps, node_id)
        try:
            learned = learner.run(view)
        except BaseException:  # whatever it was, a cancel above all: what is learned stays
            _unfinished[model.model] = (key, learner.state)
            raise
        view.finish()
        return learned

    with torch.inference_mode(False):
        state = GradientModel(model, space.models).run(job, space.empty, (micro_batch, *latents.shape[1:]))
        return {name: _on(tokens, torch.device("cpu")) for name, tokens in state.best.items()}


class LearningView:
    """Shows learning on the node: bar, text and a picture of the curves; cancels with the host."""

    def __init__(self, total: int, node_id: str | None) -> None:
        self._bar = comfy.utils.ProgressBar(total, node_id)
        self._node_id = node_id
        self._shown = 0
        self._told = ""

    def __call__(self, report: LearningReport) -> None:
        _host.check_interrupted()
        preview: Any = None
        if len(report.history) != self._shown:
            self._shown = len(report.history)
            preview = ("JPEG", draw_curves(report.history, STAGE_AXES), PREVIEW_PX)
        self._bar.update_absolute(report.step, report.total, preview)
        self._told = learning_text(report)
        self._show(self._told)

    def finish(self) -> None:
        """Show how it ended; the last word says that it did."""
        if self._told:  # there may have been nothing left to learn
            self._show(f"{self._told}\ndone")

    def _show(self, text: str) -> None:
        server = getattr(PromptServer, "instance", None)
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)


def learning_text(report: LearningReport) -> str:
    """Say where learning is: the held-out loss at first and now, and the last loss of every stage."""
    held_out = report.history.mean((1, 2)).tolist()
    losses = " ".join(f"{value:.3f}" for value in report.errors.mean(1).tolist())
    loss = f"held-out loss {held_out[0]:.4f} -> {held_out[-1]:.4f}"
    return f"step {report.step} of {report.total}, {loss}, learning rate {report.learning_rate:g}\nstages: {losses}"


def picture_digest(image: Tensor) -> str:
    """Hash a picture, to know it again."""
    there = image.detach().float().cpu().contiguous()
    return hashlib.sha256(str(tuple(there.shape)).encode() + there.numpy().tobytes()).hexdigest()


def tokens_digest(tokens: dict[str, StageTokens] | None) -> str:
    """Hash tokens, to know them again."""
    parts = [] if tokens is None else [picture_digest(tokens[name].stacked()) + name for name in sorted(tokens)]
    return " ".join(parts)


def _on(tokens: StageTokens, device: torch.device) -> StageTokens:
    base = None if tokens.base is None else tokens.base.detach().float().to(device)
    return StageTokens(tokens.offsets.detach().float().to(device), base)
