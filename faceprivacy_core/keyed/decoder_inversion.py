"""Finds the latent whose decoded picture is the one that is seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..protocols import Progress

MEMORY = 60
"""Steps from which L-BFGS estimates the curvature. An autoencoder is badly conditioned: plain gradients with momentum are no
better after 400 evaluations than L-BFGS is after 80."""
CHUNK = 20
ROUNDING = 1.0 / (12 * 255**2)
"""Mean squared error of pixels that were only rounded to 8 bits: there is nothing to gain below."""
SCALE = 1000.0
"""Of the loss, so that its gradient is not lost in the search's tolerances."""


def invert_decoder(
    render: Callable[[Tensor], Tensor],
    seen: Tensor,
    weights: Tensor,
    start: Tensor,
    free: Tensor,
    *,
    steps: int = 100,
    progress: Progress | None = None,
) -> Tensor:
    """Minimise the squared difference between a rendered latent and a picture.

    An encoder only approximates the inverse of its decoder, and a keyed face depends on the
    latent far more finely than a picture does. The picture was made by this very decoder, so
    the latent that explains it is the one it was made from.

    Args:
        render: Differentiable, from a latent (1, C, h, w) to pixels shaped like `seen`.
        seen: (C', H, W) in [0, 1].
        weights: (H, W), how much a pixel counts.
        start: (1, C, h, w) first guess, from the encoder.
        free: (1, 1, h, w), 1 where the latent may change.
        steps: Evaluations of L-BFGS, at most; the search ends where only rounding is left.

    Returns:
        (1, C, h, w), the best latent found.
    """
    change = torch.zeros_like(start, requires_grad=True)
    total = weights.expand_as(seen).sum().clamp(min=1.0)
    best, best_loss, evaluations = start.clone(), float("inf"), 0
    optimizer = torch.optim.LBFGS(
        [change], max_iter=CHUNK, history_size=MEMORY, tolerance_grad=0.0, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def evaluate() -> Tensor:
        nonlocal best, best_loss, evaluations
        optimizer.zero_grad()
        latent = start + free * change
        loss = (weights * (render(latent) - seen) ** 2).sum() / total
        if loss.item() < best_loss:
            best, best_loss = latent.detach().clone(), loss.item()
        (SCALE * loss).backward()
        evaluations += 1
        if progress is not None:
            progress(min(evaluations, steps), steps)
        return SCALE * loss

    with torch.enable_grad():
        while evaluations < steps and best_loss > ROUNDING:
            before = evaluations
            optimizer.step(evaluate)
            if evaluations - before <= 2:  # no direction leads further down
                break
    return best
