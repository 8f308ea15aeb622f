"""Smooth random pictures with a face in a known place of each, for whole methods."""

from __future__ import annotations

import torch
from torch import Tensor

from faceprivacy_core.types import Faces
from tests.support.faces import synthetic_face

HEIGHT, WIDTH = 180, 240


def pictures(count: int) -> Tensor:
    """Return pictures (count, 3, 180, 240) in [0, 1]."""
    coarse = torch.rand(count, 3, 12, 16, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear").round(decimals=3)


def faces_in(count: int, *, first: int = 0) -> Faces:
    """Return one face for each of `count` pictures; face i lies where face 0 lies with `first=i`."""
    faces = (synthetic_face(110 + 8 * (first + i), 90, 130, image_index=i) for i in range(count))
    return Faces(tuple(faces), count, HEIGHT, WIDTH)
