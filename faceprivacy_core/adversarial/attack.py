"""Optimising the deepest latents of a batch of faces, each with its own loss, stop and best iterate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ..diffusion.model import batches
from ..errors import InputError, NumericalError
from ..rng import seeded_noise
from .objective import Objective, Outcome

COLUMNS = ("attack", "structure", "change", "similarities")

LOSS_SCALE = 1e3
"""Factor of the loss before differentiation: Adam does not mind, and half precision does not underflow."""


@dataclass(frozen=True)
class AttackSettings:
    """How to optimise.

    Attributes:
        iterations: Updates at most. The first from the reference is a seeded kick of one learning rate in
            every value, because a face is most similar to itself: at zero attack the similarity has no slope.
        learning_rate: Of Adam; no value of a latent moves farther than iterations * learning_rate.
        settle: Iterations that a face goes on after it has reached the goal, to change less.
        weight_decay: 0.01 is the released AdamW, which shrinks the latent without reason.

    Raises:
        InputError: A number is out of range.
    """

    iterations: int = 30
    learning_rate: float = 0.01
    settle: int = 0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if min(self.iterations, self.settle) < 0 or not self.learning_rate > 0.0 or self.weight_decay < 0.0:
            raise InputError(f"Expected counts of at least 0 and a learning rate above 0, got {self}.")


@dataclass(frozen=True, eq=False)
class History:
    """The course of an attack; NaN where a face was already done.

    Attributes:
        attack, structure, change: (T, N) parts of the loss, not weighted.
        similarities: (T, N, M) of the plain picture.
        starts: Row of T with which each attempt begins.
    """

    attack: Tensor
    structure: Tensor
    change: Tensor
    similarities: Tensor
    starts: tuple[int, ...] = (0,)


def join_histories(parts: Sequence[History]) -> History:
    """Put the courses of attempts (at least one) one after the other."""
    columns = {
        name: torch.cat([getattr(part, name) for part in parts if len(part.attack)] or [getattr(parts[0], name)])
        for name in COLUMNS
    }
    ends = accumulate(len(part.attack) for part in parts)
    return History(**columns, starts=(0, *ends)[:-1])


@dataclass(frozen=True, eq=False)
class AttackReport:
    """What progress is told after every evaluation.

    Attributes:
        iteration, total: Updates done, and at most.
        latents: (N, C, h, w) attacked latents at the deepest level, for a preview.
        similarities: (N, M) latest of every face; NaN of faces that are not attacked.
        is_reached: (N,) faces that have reached the goal.
    """

    iteration: int
    total: int
    latents: Tensor
    similarities: Tensor
    is_reached: Tensor


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The best iterate of every face.

    Attributes:
        latents: (N, C, h, w) float32 at the deepest level.
        residuals: (N, 3, V, V) its change of the picture, before the mask.
        is_reached: (N,) whether the goal was reached.
        iterations: (N,) updates behind the iterate; 0 is no attack.
        history: The course.
        cancelled: Whether the work was stopped early and the best so far kept.
    """

    latents: Tensor
    residuals: Tensor
    is_reached: Tensor
    iterations: Tensor
    history: History
    cancelled: bool


def attack_latents(
    objective: Objective,
    settings: AttackSettings,
    *,
    faces: Sequence[int] | None = None,
    start: Tensor | None = None,
    progress: Callable[[AttackReport], None] | None = None,
    keep_best_on_cancel: tuple[type[BaseException], ...] = (),
) -> AttackResult:
    """Search latents that reach the goal and change little.

    The best iterate of a face is, among those that reach the goal, the one with the least mean
    squared change of the picture; if there is none, the one with the least attack loss.

    Args:
        objective: Open; knows faces and goal.
        settings: How.
        faces: Which to attack; None is all. The others keep their start and change nothing.
        start: (N, C, h, w) latents to start from; None is the reference.
        progress: Told after every evaluation; may raise to cancel.
        keep_best_on_cancel: Exceptions that end the search and keep what was found, such as the
            host's cancel; by default every exception goes through and nothing is kept.

    Returns:
        One iterate for each face. Nothing depends on the other faces of the batch.

    Raises:
        NumericalError: A gradient is not finite, or is 0 everywhere although the goal is not reached.

    Where the objective has a budget, every latent is drawn back to where its change of the picture
    about uses the budget up, before it is updated and before it is kept. Without that the latent
    would run away while the picture stays, and every further update would turn it less.

    Source: arXiv 2503.10350; AdamW, last iterate.
    Deviations: no weight decay; best iterate; a face stops when it is protected; drawn back to the budget.
    Laws: test_the_latent_stays_within_the_trust_region, test_a_batch_equals_its_faces_alone.
    """
    with torch.inference_mode(False), torch.enable_grad():
        search = _Search(objective, settings, objective.reference if start is None else start)
        cancelled = False
        try:
            search.run(list(range(len(objective.reference)) if faces is None else faces), progress)
        except keep_best_on_cancel:
            cancelled = True
        return search.result(cancelled)


def kick(seeds: Sequence[int], shape: tuple[int, ...], size: float) -> Tensor:
    """Return +size or -size for every value, (N, *shape), one seed per face."""
    return size * seeded_noise(seeds, shape).sign()


class _Search:
    def __init__(self, objective: Objective, settings: AttackSettings, start: Tensor) -> None:
        start = start.detach().clone().to(objective.reference.device, torch.float32)
        count, values = len(start), objective.scene.originals
        self.objective, self.settings = objective, settings
        self.parameters = [part.clone().requires_grad_(True) for part in start.split(1)]
        self.optimizer = torch.optim.AdamW(self.parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        self.best = [part.clone() for part in start.split(1)]
        self.best_residuals = values.new_zeros(values.shape)
        self.best_keys = [(True, float("inf"))] * count
        self.best_iterations = [0] * count
        self.reached_at: list[int | None] = [None] * count
        self.rows: list[dict[str, Tensor]] = []

    def run(self, active: list[int], progress: Callable[[AttackReport], None] | None) -> None:
        total = self.settings.iterations
        if total == 0 or not active:
            return
        self._kick()
        for iteration in range(1, total + 1):
            self.rows.append({})
            shares: dict[int, Tensor] = {}
            for some in batches(active, self.objective.model.at_once):
                faces = torch.tensor(some, device=self.objective.reference.device)
                with torch.set_grad_enabled(iteration < total):
                    outcome = self.objective(torch.cat([self.parameters[face] for face in some]), faces, iteration)
                self._note(outcome, some, iteration)
                going = [row for row, face in enumerate(some) if not self._is_done(face, iteration)]
                if iteration < total and going:
                    self._differentiate(outcome, going, [some[row] for row in going])
                    shares |= {some[row]: outcome.shares[row] for row in going}
            if progress is not None:
                progress(self._report(iteration))
            active = list(shares)
            if not active:
                return
            self._update(shares)

    def result(self, cancelled: bool) -> AttackResult:
        count, device = len(self.best), self.best_residuals.device
        empty = torch.zeros(0, count, device=device)
        rows = [row for row in self.rows if row]  # one is empty where the model itself was cancelled
        columns = {name: torch.stack([row[name] for row in rows]) if rows else empty for name in COLUMNS}
        reached = torch.tensor([not key[0] for key in self.best_keys])
        iterations = torch.tensor(self.best_iterations)
        return AttackResult(torch.cat(self.best), self.best_residuals, reached, iterations, History(**columns), cancelled)

    def _kick(self) -> None:
        seeds, shape = self.objective.scene.seeds, tuple(self.parameters[0].shape[1:])
        pushes = kick(seeds, shape, self.settings.learning_rate)
        reference = self.objective.reference.split(1)
        with torch.no_grad():
            for parameter, push, still in zip(self.parameters, pushes, reference, strict=True):
                if torch.equal(parameter, still.to(parameter)):
                    parameter += push.to(parameter)

    def _note(self, outcome: Outcome, active: list[int], iteration: int) -> None:
        reached, change, attack = (part.tolist() for part in (outcome.is_reached, outcome.change, outcome.attack))
        for row, face in enumerate(active):
            key = (not reached[row], change[row] if reached[row] else attack[row])
            if reached[row] and self.reached_at[face] is None:
                self.reached_at[face] = iteration
            if key < self.best_keys[face]:
                self.best_keys[face], self.best_iterations[face] = key, iteration
                self.best[face] = self._drawn_back(face, outcome.shares[row])
                self.best_residuals[face] = outcome.residuals[row].detach()
        noted = self.rows[-1]
        for name in COLUMNS:
            values = getattr(outcome, name).detach()
            noted.setdefault(name, values.new_full((len(self.parameters), *values.shape[1:]), float("nan")))[active] = values

    def _report(self, iteration: int) -> AttackReport:
        latest = self.rows[-1]["similarities"].clone()
        for row in reversed(self.rows):
            latest = torch.where(latest.isnan(), row["similarities"], latest)
        latents = torch.cat([parameter.detach() for parameter in self.parameters])
        reached = torch.tensor([at is not None for at in self.reached_at])
        return AttackReport(iteration, self.settings.iterations, latents, latest, reached)

    def _is_done(self, face: int, iteration: int) -> bool:
        at = self.reached_at[face]
        return at is not None and iteration - at >= self.settings.settle

    def _drawn_back(self, face: int, share: Tensor) -> Tensor:
        """Return the latent of a face with only a share of its distance from the reference."""
        still = self.objective.reference[face : face + 1].to(self.parameters[face])
        return torch.lerp(still, self.parameters[face].detach(), share.to(still))

    def _differentiate(self, outcome: Outcome, rows: list[int], faces: list[int]) -> None:
        """Keep the gradients of the faces of some rows of an outcome; its graph is not needed afterwards."""
        parameters = [self.parameters[face] for face in faces]
        gradients = torch.autograd.grad(LOSS_SCALE * outcome.total[rows].sum(), parameters)
        for row, face, gradient in zip(rows, faces, gradients, strict=True):
            _check_gradient(gradient, face, wants_none=bool(outcome.is_reached[row] | (outcome.attack[row] == 0.0)))
            self.parameters[face].grad = gradient

    def _update(self, shares: dict[int, Tensor]) -> None:
        """Take one step for the faces that have a gradient, given what share of their change is taken."""
        for face, share in shares.items():
            with torch.no_grad():
                self.parameters[face].copy_(self._drawn_back(face, share))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _check_gradient(gradient: Tensor, face: int, *, wants_none: bool) -> None:
    """Raise unless the gradient is finite, and is not 0 everywhere where the loss wants a change."""
    if not bool(torch.isfinite(gradient).all()):
        raise NumericalError(
            f"Expected a finite gradient for face {face}, got NaN or infinity. Load model, VAE and recognisers in bf16 or fp32."
        )
    if not wants_none and not bool(gradient.any()):
        raise NumericalError(
            f"Expected a gradient for face {face}, got 0 everywhere: half precision underflows, or the mask leaves no part of "
            "the face. Load the model in bf16 or fp32, and check the mask."
        )
