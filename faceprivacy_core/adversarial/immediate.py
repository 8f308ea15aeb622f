"""Differentiating a loss where it is computed, so that its graph does not outlive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def differentiated_now(loss: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Compute a loss and, when `images` want a gradient, its gradient at once.

    What the loss keeps for its backward pass is freed on return, rather than when the whole loss is
    differentiated. Several such losses of the same images so cost the memory of the largest one.

    Args:
        loss: Maps images (n, ...) to (n,) losses, each of its own image alone. Differentiable once.
        images: (n, ...). Not modified.

    Returns:
        (n,) losses; their gradient is that of `loss`.

    Laws: test_a_loss_differentiated_now_has_the_same_gradient_and_keeps_no_graph.
    """
    if not (torch.is_grad_enabled() and images.requires_grad):
        return loss(images)
    return _Differentiated.apply(images, loss)


class _Differentiated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            losses = loss(leaf)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        ctx.save_for_backward(gradient)
        return losses.detach()

    @staticmethod
    def backward(ctx: Any, factors: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * factors.view(-1, *[1] * (gradient.dim() - 1)), None
