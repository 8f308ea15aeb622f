"""Finds the latent whose decoded picture is the one that is seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..protocols import Progress

LEARNING_RATE = 0.05


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
        steps: Iterations of Adam, with a learning rate that falls to 0 as a cosine.

    Returns:
        (1, C, h, w), the best latent found.
    """
    with torch.enable_grad():
        change = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([change], lr=LEARNING_RATE)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        best, best_loss = start.clone(), float("inf")
        total = weights.sum().clamp(min=1.0)
        for step in range(steps + 1):
            latent = start + free * change
            loss = (weights * (render(latent) - seen) ** 2).sum() / total
            if loss.item() < best_loss:
                best, best_loss = latent.detach().clone(), loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
            if progress is not None:
                progress(step + 1, steps + 1)
    return best
