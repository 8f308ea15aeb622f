"""Learning stage tokens of single pictures, so that a frozen model denoises them well."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, NumericalError
from .denoising import HELD_OUT, Lesson, draw, mean_errors, noise_errors
from .inversion import StageTokens
from .sources import TokenSource


@dataclass(frozen=True)
class LearningSettings:
    """How to learn.

    Attributes:
        steps: Updates at most; each uses every stage of every face equally often.
        learning_rate: Of Adam at the beginning, in units of a free token's element; falls along a cosine.
        draws: Draws of (timestep, noise) for each stage and face in an update.
        held_out: Fixed draws for each stage and face, never learned from, that choose the best tokens.
        check_every: Updates between looks at the held-out error.
        patience: Looks without progress after which a face is done; 0 never stops early.
        min_gain: Relative fall of the held-out error that counts as progress.

    Raises:
        InputError: A number is out of range.
    """

    steps: int = 200
    learning_rate: float = 1e-2
    draws: int = 1
    held_out: int = 4
    check_every: int = 20
    patience: int = 4
    min_gain: float = 1e-3

    def __post_init__(self) -> None:
        counts = (self.steps, self.patience)
        if min(counts) < 0 or min(self.draws, self.held_out, self.check_every) < 1 or not self.learning_rate > 0:
            raise InputError(
                "Expected steps and patience of at least 0, draws, held_out and check_every of at least 1 and a learning "
                f"rate above 0, got {self}."
            )


@dataclass(frozen=True, eq=False)
class LearningState:
    """All that learning needs to go on as if it had never stopped.

    Attributes:
        step: Updates done.
        parameters: Of the token source, in order.
        optimizer: Adam's state: moments and counts.
        best: The best tokens so far, by encoder: of each face those of the look at which the held-out
            errors, relative to the first and averaged over the stages, were lowest.
        best_errors: (K, N) their held-out errors.
        history: (checks, K, N) held-out errors at every look, the first before any update.
        waited: (N,) looks without progress.
        evaluations: Latents the model has denoised, for learning and for looking.
    """

    step: int
    parameters: tuple[Tensor, ...]
    optimizer: Mapping[str, Any]
    best: Mapping[str, StageTokens]
    best_errors: Tensor
    history: Tensor
    waited: Tensor
    evaluations: int


@dataclass(frozen=True, eq=False)
class LearningReport:
    """What progress is told after every update.

    Attributes:
        step, total: Updates done, and at most.
        errors: (K, N) errors of this update's draws; 0 for faces that are done.
        history: (checks, K, N) held-out errors so far.
        learning_rate: Of this run.
    """

    step: int
    total: int
    errors: Tensor
    history: Tensor
    learning_rate: float


LearningProgress = Callable[[LearningReport], None]


class TokenLearner:
    """Minimises the denoising error of faces over the parameters of a token source.

    Every face has draws and optimiser states of its own, so a batch gives what its faces give
    alone. The draws of an update follow from seed and step. An exception out of `progress` or
    the model leaves `state` as it was after the last whole update.

    Args:
        task: Faces and model. The model gets no gradients.
        source: What is learned. It is changed in place.
        settings: How.
        state: Where to go on; None begins.

    Raises:
        InputError: Inference mode is on, or the state is of another source.

    Source: Diff-Privacy (arXiv 2309.05330), training of the multi-scale image inversion.
    Deviations: all stages in every update instead of one uniform timestep; no flips; the mode
        of the posterior instead of a sample; Adam without decay, falling rate, best tokens by a
        held-out error instead of the last ones.
    Laws: test_learning_goes_on_as_if_it_had_not_stopped, test_a_batch_learns_what_its_faces_learn_alone.
    """

    def __init__(
        self, task: Lesson, source: TokenSource, settings: LearningSettings, state: LearningState | None = None
    ) -> None:
        if torch.is_inference_mode_enabled():
            raise InputError("Expected gradients to be possible, got inference mode. Leave it before learning.")
        self.task, self.source, self.settings = task, source, settings
        self._parameters = list(source.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, self._rate(0))
        self._held_out = draw(task, range(len(task.latents)), HELD_OUT, settings.held_out, even=True)
        if state is None:
            count = len(task.latents)
            nothing = task.latents.new_zeros(0, task.num_stages, count)
            first = torch.full((task.num_stages, count), torch.inf, device=task.latents.device)
            state = LearningState(0, (), {}, {}, first, nothing, torch.zeros(count, dtype=torch.long), 0)
        else:
            self._restore(state)
        self._state = state

    @property
    def state(self) -> LearningState:
        """A copy of where learning stands."""
        parameters = tuple(parameter.detach().clone() for parameter in self._parameters)
        return replace(self._state, parameters=parameters, optimizer=copy.deepcopy(self._optimizer.state_dict()))

    def run(self, progress: LearningProgress | None = None) -> LearningState:
        """Learn until the steps are done or no face makes progress; return the last state.

        Raises:
            NumericalError: A gradient left the finite numbers.
        """
        while True:
            if len(self._state.history) <= self._checks_due():
                self._check()
            if self._state.step >= self.settings.steps or not self._active():
                return self.state
            errors = self._update()
            if progress is not None:
                report = LearningReport(
                    self._state.step, self.settings.steps, errors, self._state.history, self.settings.learning_rate
                )  # fmt: skip
                progress(report)

    def _checks_due(self) -> int:
        """Return how many looks after the first are due at this step."""
        step, every = self._state.step, self.settings.check_every
        return math.ceil(step / every) if step == self.settings.steps else step // every

    def _active(self) -> list[int]:
        patience = self.settings.patience
        return [face for face, waited in enumerate(self._state.waited.tolist()) if not patience or waited < patience]

    def _rate(self, step: int) -> float:
        falling = 0.5 * (1.0 + math.cos(math.pi * step / max(1, self.settings.steps)))
        return self.settings.learning_rate * self.source.relative_rate * falling

    def _update(self) -> Tensor:
        task, state, faces = self.task, self._state, self._active()
        draws = draw(task, faces, state.step, self.settings.draws)
        with torch.enable_grad():
            tokens = self.source()
            outputs = [part for entry in tokens.values() for part in _learned(entry)]
            leaves = {name: _leaves(entry) for name, entry in tokens.items()}
            inputs = [part for entry in leaves.values() for part in _learned(entry)]
            gradients = [torch.zeros_like(leaf) for leaf in inputs]
            total = task.latents.new_zeros(task.num_stages, len(task.latents))
            # Summed over the latent, the gradient at the network's output is about 1: nothing underflows in half precision.
            pixels = task.latents[0].numel()
            for piece in draws.split(task.micro_batch):
                errors = noise_errors(task, leaves, piece)
                for sum_, part in zip(gradients, torch.autograd.grad(errors.sum() * pixels, inputs), strict=True):
                    sum_ += part
                total.index_put_((piece.stages, piece.faces), errors.detach() / self.settings.draws, accumulate=True)
            if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
                raise NumericalError(
                    f"Learning left the finite numbers at update {state.step + 1}. Load the model in bf16 or fp32."
                )
            torch.autograd.backward(outputs, gradients)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(state.step)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._state = replace(state, step=state.step + 1, evaluations=state.evaluations + len(draws))
        return total

    def _check(self) -> None:
        state, faces = self._state, self._active()
        with torch.no_grad():
            tokens = self.source()
        is_active = torch.zeros(len(self.task.latents), dtype=torch.bool)
        is_active[faces] = True
        held_out = self._held_out.of_faces(is_active)
        there = is_active.to(state.best_errors.device)
        errors = torch.where(there, mean_errors(self.task, tokens, held_out), state.best_errors)
        first = state.history[0] if len(state.history) else errors
        before, now = ((part / first).mean(0) for part in (state.best_errors, errors))
        better = there & (now < before)
        gain = 1.0 - (torch.minimum(now, before) / before).cpu()
        waits = is_active & (gain < self.settings.min_gain)
        waited = torch.where(waits, state.waited + 1, torch.where(is_active, torch.zeros_like(state.waited), state.waited))
        self._state = replace(
            state,
            best={name: _best(entry, state.best.get(name), better) for name, entry in tokens.items()},
            best_errors=torch.where(better, errors, state.best_errors),
            history=torch.cat([state.history, errors[None]]),
            waited=waited,
            evaluations=state.evaluations + len(held_out),
        )

    def _restore(self, state: LearningState) -> None:
        shapes = [tuple(parameter.shape) for parameter in self._parameters]
        if [tuple(parameter.shape) for parameter in state.parameters] != shapes:
            raise InputError("Expected the state of the same token source, got one of other parameters. Begin anew.")
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state.parameters, strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(copy.deepcopy(dict(state.optimizer)))


def _learned(tokens: StageTokens) -> list[Tensor]:
    """Return the parts that gradients pass from."""
    return [part for part in (tokens.offsets, tokens.base) if part is not None and part.requires_grad]


def _leaves(tokens: StageTokens) -> StageTokens:
    """Cut tokens off from their parameters; the same parts want a gradient."""
    parts = (
        part if part is None else part.detach().requires_grad_(part.requires_grad) for part in (tokens.offsets, tokens.base)
    )
    return StageTokens(*parts)


def _best(tokens: StageTokens, before: StageTokens | None, better: Tensor) -> StageTokens:
    """Take the tokens of the faces that are better (N,), else those before."""
    if before is None:
        return StageTokens(tokens.offsets.clone(), None if tokens.base is None else tokens.base.clone())
    offsets = torch.where(better[:, None, None], tokens.offsets, before.offsets)
    return StageTokens(offsets, None if tokens.base is None else torch.where(better[:, None, None], tokens.base, before.base))
