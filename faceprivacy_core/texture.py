"""Give drawn faces the sharpness of the photograph they are put into."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_AMOUNT = 1.8
"""Fine detail is raised to at most 1 + 1.8 times itself; more would raise what is wrong with it, too."""
FINE_PX = 1.0
"""Standard deviation of the blur that separates fine detail, in pixels of the crop."""


def match_sharpness(images: Tensor, references: Tensor, weight: Tensor, most: float = MAX_AMOUNT) -> Tensor:
    """Raise the fine detail of images until the variance of their Laplacian is that of the references.

    With d the detail of an image x, the Laplacian of x + a d is L(x) + a L(d), so its variance is a quadratic in a,
    whose positive root is taken, between 0 (never softer than drawn) and `most`.

    Args:
        images: (V * N, 3, S, S) in [0, 1], variant by variant.
        references: (N, 3, S, S) in [0, 1].
        weight: (1 or N, 1, S, S), 1 where the sharpness is measured.
        most: Largest a.

    Returns:
        (V * N, 3, S, S) in [0, 1].
    """
    rounds = len(images) // len(references)
    weight = weight.to(images).expand(len(references), -1, -1, -1).repeat(rounds, 1, 1, 1)
    detail = images - gaussian_blur(images, FINE_PX)
    edges, fine = laplacian(images), laplacian(detail)
    wanted = _moment(laplacian(references), laplacian(references), weight[: len(references)]).repeat(rounds)
    own, mixed, added = _moment(edges, edges, weight), _moment(edges, fine, weight), _moment(fine, fine, weight)
    missing = (wanted - own).clamp(min=0.0)
    amount = ((mixed.square() + added * missing).sqrt() - mixed) / added.clamp(min=1e-12)
    amount = torch.where(added > 1e-12, amount, torch.zeros_like(amount)).clamp(0.0, most)
    return (images + amount.view(-1, 1, 1, 1) * detail).clamp(0.0, 1.0)


def laplacian(images: Tensor) -> Tensor:
    """Return the Laplacian of the brightness (B, 1, S, S); edges repeat."""
    bright = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = images.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return F.conv2d(bright, kernel)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur (B, C, S, S) with a Gaussian of `sigma` pixels; edges repeat.

    Shifted pictures are added up, along rows and then along columns: a fifth of the time of a convolution.
    """
    reach = max(1, round(3 * sigma))
    line = torch.exp(-torch.arange(-reach, reach + 1, dtype=torch.float64).square() / (2 * sigma**2))
    weights, blurred = (line / line.sum()).tolist(), F.pad(images, (reach,) * 4, mode="replicate")
    for axis in (-1, -2):
        parts = [blurred.narrow(axis, start, images.shape[axis]) for start in range(2 * reach + 1)]
        blurred = parts[0] * weights[0]
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            blurred.add_(part, alpha=weight)
    return blurred


def _moment(one: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    return (one * other * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
