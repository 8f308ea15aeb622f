"""The energy of looks: what people, not recognisers, see in a result."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..protocols import PerceptualNetwork
from .energies import tile

LOOK_TARGET = 0.5
"""LPIPS at which a face looks like another one.

Between aligned crops of 256 pixels of different people in the sample pictures it is 0.41 to
0.54; the autoencoder of the built-in model alone moves a crop by 0.29.
"""


@dataclass(frozen=True, eq=False)
class LookDifferent:
    """Make every result look unlike its original.

    E_i = relu(target - d(I_i, original of i)), d the perceptual distance.

    Attributes:
        originals: (N, 3, S, S) crops in [0, 1].
        network: Measures d.
        target: Distance beyond which nothing is gained, above 0.
        mask: (N, 1, S, S) in [0, 1], where looks count; None is everywhere.

    Raises:
        InputError: The target is not above 0, or the mask has another shape or is empty.

    Source: not in Diff-Privacy, whose hidden faces change their looks by noise alone; LPIPS of
        Zhang et al. (2018) as its evaluation uses it.
    """

    originals: Tensor
    network: PerceptualNetwork
    target: float = LOOK_TARGET
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.target > 0.0:
            raise InputError(f"Expected a perceptual target above 0, got {self.target}.")
        if self.mask is not None:
            _check_mask(self.mask, self.originals)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the energy (V * N,) of images (V * N, 3, S', S') in [0, 1]."""
        size = images.shape[-2:]
        references = tile(_resized(self.originals, size), len(images))
        mask = None if self.mask is None else tile(_resized(self.mask, size), len(images))
        distances = self.network.compute_differentiable(images, references, mask)
        return F.relu(self.target - distances)


def _resized(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


def _check_mask(mask: Tensor, originals: Tensor) -> None:
    expected = (len(originals), 1, *originals.shape[-2:])
    if tuple(mask.shape) != expected:
        raise InputError(
            f"Expected a mask of shape {expected}, one for each crop and of its size, got {tuple(mask.shape)}. "
            "Use the mask that was cut with the crops."
        )
    if not bool((mask.flatten(1).sum(dim=1) > 0).all()):
        raise InputError(
            "Expected a mask that marks part of every face, got an empty one. Use the mask that was cut with the crops."
        )
