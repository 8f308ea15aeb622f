"""All steps of cloaking as one course, whatever attempts it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..protocols import Progress
from .attack import AttackReport


class Course:
    """Counts the levels that are prepared and the iterations of every attempt as one row of steps.

    The total is what may come at most; it falls when an attempt ends early.

    Args:
        levels: To prepare.
        iterations: Of an attempt at most.
        attempts: At most.
        progress: Told every step; may raise to cancel.
        watch: Told the state of the attack after every iteration, as if there were one attempt only.
    """

    def __init__(
        self,
        levels: int,
        iterations: int,
        attempts: int,
        progress: Progress | None = None,
        watch: Callable[[AttackReport], None] | None = None,
    ) -> None:
        self.levels, self.iterations, self.progress, self.watch = levels, iterations, progress, watch
        self._done, self._most, self._used = 0, iterations * attempts, 0
        self._told: tuple[int, int] | None = None
        self._open = torch.zeros(0, dtype=torch.bool)
        self._latents = torch.zeros(0)
        self._last: AttackReport | None = None

    def level(self, done: int) -> None:
        """Note that this many levels are prepared."""
        self._tell(done)

    def begin(self, faces: Sequence[int], latents: Tensor) -> None:
        """Begin an attempt on some faces; `latents` (N, C, h, w) is where all are."""
        self._open = torch.zeros(len(latents), dtype=torch.bool)
        self._open[list(faces)] = True
        self._latents = latents

    def iteration(self, report: AttackReport) -> None:
        """Note an iteration of the attempt."""
        self._used = report.iteration
        report = self._whole(report)
        self._last = report
        if self.watch is not None:
            self.watch(report)
        self._tell(self.levels + report.iteration, report.latents)

    def end(self) -> None:
        """Note that the attempt is over."""
        self._done += self._used
        self._most -= self.iterations - self._used
        self._used = 0

    def finish(self) -> None:
        """Note that no attempt follows."""
        self._most = self._done
        end = self.levels + self._done
        if self._told != (end, end):
            self._tell(end)

    def _whole(self, report: AttackReport) -> AttackReport:
        others = ~self._open.to(report.latents.device)
        similarities = report.similarities
        if self._last is not None:
            similarities = torch.where(others[:, None], self._last.similarities, similarities)
        return replace(
            report,
            iteration=self._done + report.iteration,
            total=self._most,
            latents=torch.where(others.view(-1, 1, 1, 1), self._latents.to(report.latents), report.latents),
            similarities=similarities,
            is_reached=report.is_reached | ~self._open,
        )

    def _tell(self, step: int, preview: Tensor | None = None) -> None:
        if self.progress is None:
            return
        self._told = (step, self.levels + self._most)
        self.progress(*self._told, preview)
