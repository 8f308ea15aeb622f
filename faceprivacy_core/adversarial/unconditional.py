"""Learning the empty condition of every level, so that the way down is the way up reversed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from ..diffusion.model import LatentModel, batches
from ..errors import InputError, NumericalError
from .levels import Levels
from .reverse import ALIGNED, check_shift, reverse_step

PATIENCE = 3
"""Updates over which the error must fall by `min_gain`."""

ERROR_SCALE = 1e3
"""Factor of the error before differentiation, so that half precision does not underflow."""


class EmptyCondition(str, Enum):
    """What the model is told on the way down."""

    LEARNED = "learned"
    FIXED = "fixed"


@dataclass(frozen=True)
class EmptySettings:
    """How to find the condition of every level.

    Attributes:
        kind: `learned` for every face and level, or the model's own empty one for all.
        steps: Updates for each level at most.
        learning_rate: Of Adam.
        min_gain: Relative fall of the error over 3 updates below which a face is done at a level.
        good_enough: Mean squared error below which a face is done at a level.
        weight_decay: 0.01 is the released AdamW, which shrinks the condition without reason.

    Raises:
        InputError: A number is out of range.
    """

    kind: EmptyCondition = EmptyCondition.LEARNED
    steps: int = 20
    learning_rate: float = 0.1
    min_gain: float = 0.01
    good_enough: float = 1e-5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in tuple(EmptyCondition):
            raise InputError(f"Expected the kind {' or '.join(EmptyCondition)}, got {self.kind!r}.")
        if self.steps < 0 or not self.learning_rate > 0 or min(self.min_gain, self.good_enough, self.weight_decay) < 0:
            raise InputError(f"Expected steps of at least 0, a learning rate above 0 and no negative number, got {self}.")


@dataclass(frozen=True, eq=False)
class EmptyConditions:
    """The condition of every level.

    Attributes:
        tokens: (K, N, L, D), or (K, 1, L, D) where all faces share it; index k - 1 for level k.
        errors: (K, N) mean squared error of each step before learning.
        learned_errors: (K, N) the same with the tokens.
    """

    tokens: Tensor
    errors: Tensor
    learned_errors: Tensor

    def of(self, k: int, faces: Tensor) -> Tensor:
        """Return the tokens (n, L, D) of level k for some faces (n,)."""
        tokens = self.tokens[k - 1]
        return tokens.expand(len(faces), -1, -1) if len(tokens) == 1 else tokens[faces]


def find_empty_conditions(
    model: LatentModel,
    trajectory: Tensor,
    levels: Levels,
    settings: EmptySettings,
    *,
    shift: int = ALIGNED,
    progress: Callable[[int], None] | None = None,
) -> EmptyConditions:
    """Learn, level by level from the deepest, tokens with which a step lands on the inversion's latent.

    Args:
        model: The frozen model.
        trajectory: (K + 1, N, C, h, w) latents of the inversion.
        levels: Its levels.
        settings: How.
        shift: Schedule of the way down, see `reverse_step`.
        progress: Told how many levels are done; may raise.

    Returns:
        Tokens and errors. Every face has its own, so a batch learns what its faces learn alone.

    Raises:
        InputError: Trajectory and levels do not fit.
        NumericalError: The error or its gradient is not finite.

    Source: arXiv 2503.10350, learning of unconditional embeddings. Each level starts from the tokens
        of the level before, with the same optimiser, and goes on from the latent that was reached.
    Deviations: weight decay 0; a face stops early; the tokens with the least error are kept, not the last.
    """
    check_shift(shift)
    if len(trajectory) != len(levels) + 1:
        raise InputError(f"Expected a trajectory of {len(levels) + 1} latents, got {len(trajectory)}.")
    learned = settings.kind == EmptyCondition.LEARNED and settings.steps > 0
    with torch.inference_mode(False), torch.enable_grad():
        path, empty = trajectory.detach().clone(), model.empty.tokens.detach().clone()
        empty = empty.to(torch.promote_types(torch.promote_types(empty.dtype, path.dtype), torch.float32))
        learner = _Learner(model, levels, settings, shift, empty, path.shape[1], learned)
        x, found = path[-1], []
        for done, k in enumerate(range(len(levels), 0, -1), start=1):
            level, x = learner.learn(k, x, path[k - 1])
            found.append(level)
            if progress is not None:
                progress(done)
        tokens, first, best = (torch.stack(part) for part in zip(*reversed(found), strict=True))
        return EmptyConditions(tokens if learned else tokens[:, :1], first, best)


class _Learner:
    def __init__(
        self, model: LatentModel, levels: Levels, settings: EmptySettings, shift: int, empty: Tensor, count: int, learned: bool
    ) -> None:
        self.model, self.levels, self.settings, self.shift, self.learned = model, levels, settings, shift, learned
        self.tokens = [empty.clone().requires_grad_(learned) for _ in range(count)]
        self.optimizer = torch.optim.AdamW(self.tokens, settings.learning_rate, weight_decay=settings.weight_decay)

    def learn(self, k: int, x: Tensor, target: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Learn one level; return its tokens and errors, and the latents that the tokens lead to."""
        count = len(x)
        histories: list[list[float]] = [[] for _ in range(count)]
        best_tokens, reached = [token.detach().clone() for token in self.tokens], torch.empty_like(x)
        active = list(range(count))
        for step in range(self.settings.steps + 1 if self.learned else 1):
            is_last = step == self.settings.steps or not self.learned
            left: list[int] = []
            for some in batches(active, self.model.at_once):
                with torch.set_grad_enabled(not is_last):
                    landed, errors = self._step(k, x[some], target[some], some)
                if not bool(torch.isfinite(errors).all()):
                    raise NumericalError(f"The error of level {k} is not finite. Load the model in bf16 or fp32.")
                for row, (face, error) in enumerate(zip(some, errors.tolist(), strict=True)):
                    if not histories[face] or error < min(histories[face]):
                        best_tokens[face], reached[face] = self.tokens[face].detach().clone(), landed[row].detach()
                    histories[face].append(error)
                going = [row for row, face in enumerate(some) if not self._is_done(histories[face])]
                if not is_last and going:
                    self._differentiate(errors[going].sum(), [some[row] for row in going], k)
                    left += [some[row] for row in going]
            active = left
            if not active:
                break
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for token, best in zip(self.tokens, best_tokens, strict=True):
                token.copy_(best)  # the next level starts here
        first, least = ([pick(history) for history in histories] for pick in (lambda h: h[0], min))
        return (torch.cat(best_tokens), x.new_tensor(first), x.new_tensor(least)), reached

    def _step(self, k: int, x: Tensor, target: Tensor, faces: list[int]) -> tuple[Tensor, Tensor]:
        cond = self.model.empty.telling(torch.cat([self.tokens[face] for face in faces]))
        landed = reverse_step(self.model.denoise, x, self.levels, k, cond, shift=self.shift)
        return landed, (landed.float() - target.float()).pow(2).flatten(1).mean(dim=1)

    def _is_done(self, history: list[float]) -> bool:
        if history[-1] < self.settings.good_enough:
            return True
        return len(history) > PATIENCE and min(history) > (1.0 - self.settings.min_gain) * min(history[:-PATIENCE])

    def _differentiate(self, total: Tensor, active: list[int], k: int) -> None:
        tokens = [self.tokens[face] for face in active]
        for token, gradient in zip(tokens, torch.autograd.grad(ERROR_SCALE * total, tokens), strict=True):
            if not bool(torch.isfinite(gradient).all()):
                raise NumericalError(f"The gradient of level {k} is not finite. Load the model in bf16 or fp32.")
            token.grad = gradient
