"""Bend aligned faces so that their landmarks lie where others do; what is far from the face stays."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..types import FloatArray

STEPS = 8
ANCHORS = np.array([[x, y] for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)])
"""Points of a crop that stay where they are, fractions of its side."""
STIFFNESS = 1e-3
MAX_BEND = 0.12
"""No landmark is moved further, as a fraction of the side: beyond, a face would be torn rather than turned."""


def bend(picture: Tensor, points: FloatArray, wanted: FloatArray) -> Tensor:
    """Move the landmarks of a picture to other places with a thin-plate spline.

    Args:
        picture: (3, S, S).
        points: (5, 2) landmarks as fractions of the side.
        wanted: (5, 2) where they shall lie.

    Returns:
        (3, S, S).

    Source: Bookstein 1989, Principal warps. Computed on a grid of S / 8 cells, bilinear between.
    """
    moves = wanted - points
    far = np.hypot(*moves.T).max()
    if far < 1e-4:
        return picture
    moves = moves * min(1.0, MAX_BEND / far)
    side = picture.shape[-1]
    targets = np.concatenate([points + moves, ANCHORS])
    shifts = np.concatenate([-moves, np.zeros_like(ANCHORS)])  # output to input
    cells = max(2, side // STEPS)
    axis = (np.arange(cells) + 0.5) / cells
    grid = np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1).reshape(-1, 2)
    field = _spline(targets, shifts, grid).reshape(1, cells, cells, 2)
    moved = F.interpolate(torch.from_numpy(field).permute(0, 3, 1, 2).to(picture), size=(side, side), mode="bicubic")
    line = (torch.arange(side, dtype=picture.dtype, device=picture.device) + 0.5) / side
    place = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)[None] + moved.permute(0, 2, 3, 1)
    bent = F.grid_sample(picture[None], 2.0 * place - 1.0, mode="bicubic", padding_mode="border", align_corners=False)
    return bent[0].clamp(0.0, 1.0)


def _spline(points: FloatArray, values: FloatArray, asked: FloatArray) -> FloatArray:
    """Interpolate values (K, 2) at points (K, 2) smoothly, at (M, 2) other points."""
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(points, points) + STIFFNESS * np.eye(count)
    system[:count, count] = system[count, :count] = 1.0
    system[:count, count + 1 :] = points
    system[count + 1 :, :count] = points.T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))]))
    return _kernel(asked, points) @ weights[:count] + weights[count] + asked @ weights[count + 1 :]


def _kernel(first: FloatArray, second: FloatArray) -> FloatArray:
    squared = ((first[:, None] - second[None]) ** 2).sum(axis=-1)
    return 0.5 * squared * np.log(np.maximum(squared, 1e-12))
