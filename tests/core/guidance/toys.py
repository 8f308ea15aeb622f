"""Parts of guidance that a person can compute by hand, and a meter for memory."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from faceprivacy_core.faces.sight import embed_all
from faceprivacy_core.guidance.energies import Diversity, IdentityEnergy, PushAway
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))


def decode(latents: Tensor) -> Tensor:
    """Latents (B, 4, h, w) to images (B, 3, h, w)."""
    return torch.sigmoid(latents[:, :3])


def energy_for(originals: Tensor, floor: float = 0.0) -> IdentityEnergy:
    landmarks = torch.zeros(len(originals), 5, 2)
    references = embed_all(RECOGNIZERS, originals, landmarks)
    terms = (PushAway(references, floor=floor), Diversity(len(originals)))
    return IdentityEnergy(RECOGNIZERS, landmarks, originals.shape[-1], terms)


class SquaredDistance:
    """A `PerceptualNetwork`: the mean squared difference."""

    def compute_differentiable(self, images: Tensor, references: Tensor, mask: Tensor | None = None) -> Tensor:
        values = (images - references).pow(2).mean(dim=1, keepdim=True)
        weight = torch.ones_like(values) if mask is None else mask
        return (weight * values).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1)


class BrightSpots:
    """A `Landmarker`: the centres of brightness of five fixed parts of the picture."""

    def focus(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        side = images.shape[-1]
        x = torch.arange(side).expand(side, side)
        bands = torch.stack([x * 5 // side == k for k in range(5)]).flatten(1).to(images)
        return bands.flatten().expand(len(images), -1)

    def locate(self, images: Tensor, focus: Tensor) -> Tensor:
        side = images.shape[-1]
        bands = focus.view(len(images), 5, side, side).to(images) * images.mean(dim=1, keepdim=True)
        y, x = torch.meshgrid(*[torch.arange(side, dtype=images.dtype)] * 2, indexing="ij")
        total = bands.flatten(2).sum(dim=2)
        return torch.stack([(bands * axis).flatten(2).sum(dim=2) / total for axis in (x, y)], dim=2)


def picture(count: int = 1, side: int = 64, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Smooth random pictures (count, 3, side, side) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, (side, side), mode="bilinear").to(dtype)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors made inside it; `peak` is the most alive at one time."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self.now = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._see, result)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._alive.pop(key, 0)
