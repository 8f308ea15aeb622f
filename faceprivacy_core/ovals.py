"""Ovals of an aligned crop: where a face, its skin, its eyes and its mouth lie, in fractions of the side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Oval:
    """An ellipse, or with a higher power a rounded rectangle.

    Attributes:
        x, y: Centre.
        radius_x, radius_y: Half its width and height.
        power: 2 for an ellipse; the higher, the fuller the corners.
    """

    x: float
    y: float
    radius_x: float
    radius_y: float
    power: int = 2

    def holds(self, u: Tensor, v: Tensor) -> Tensor:
        """Say of positions, fractions of the side from the left and from the top, whether they lie inside."""
        across, down = (u - self.x) / self.radius_x, (v - self.y) / self.radius_y
        return across**self.power + down**self.power <= 1.0

    def on_grid(self, side: int) -> Tensor:
        """Return (1, 1, side, side) bool, true inside."""
        axis = (torch.arange(side) + 0.5) / side
        return self.holds(axis[None, :], axis[:, None])[None, None]


FACE = Oval(0.5, 0.565, 0.22, 0.25)
"""Brows to chin; over it sharpness is compared."""
SKIN = Oval(0.5, 0.57, 0.2, 0.11)
"""From below the eyes to above the mouth, so that no beard counts; over it colours and light are compared."""
EYES = Oval(0.5, 0.45, 0.235, 0.115, power=4)
"""Eyes, brows to their ends, the upper nose."""
MOUTH = Oval(0.5, 0.735, 0.13, 0.06)
