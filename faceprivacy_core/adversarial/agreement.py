"""Whether the short cut around the model's gradient points where the full gradient points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .attack import LOSS_SCALE, kick
from .objective import Objective

ENOUGH = 0.9
"""Cosine from which the truncated gradient may be taken."""


def check_agreement(objective: Objective, size: float) -> None:
    """Refuse the truncated gradient where it leads elsewhere; see `truncated_agreement`.

    Raises:
        InputError: For some face the cosine is below `ENOUGH`; says which and how large it is.
    """
    cosines = truncated_agreement(objective, size)
    face = int(cosines.argmin())
    if not float(cosines[face]) >= ENOUGH:
        raise InputError(
            f"Expected a truncated gradient that agrees with the full one (cosine of at least {ENOUGH}), got "
            f"{float(cosines[face]):.2f} for face {face}. Attack fewer levels, or leave the gradient whole."
        )


def truncated_agreement(objective: Objective, size: float) -> Tensor:
    """Compare the truncated with the full gradient of the attack loss.

    Args:
        objective: Open; its own `truncated` plays no part and is as before afterwards.
        size: Size of the seeded push away from the reference where the two are compared; one
            learning rate is where an attack begins.

    Returns:
        (N,) cosine of the two gradients, in [-1, 1].
    """
    before = objective.truncated
    start = objective.reference.detach().clone().float()
    start += kick(objective.scene.seeds, tuple(start.shape[1:]), size).to(start)
    faces = torch.arange(len(start), device=start.device)
    gradients = []
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for truncated in (False, True):
                objective.truncated = truncated
                latents = start.clone().requires_grad_(True)
                loss = LOSS_SCALE * objective(latents, faces).attack.sum()
                gradients.append(torch.autograd.grad(loss, latents)[0].flatten(1))
    finally:
        objective.truncated = before
    return F.cosine_similarity(*gradients, dim=1)
