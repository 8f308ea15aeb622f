"""Energies of identity: what face recognisers should and should not see in a result.

An energy maps images (V * N, 3, S, S) in [0, 1], variant by variant over N faces, to one
value per image. Lower is better; 0 means satisfied. The terms here share one pass through
the recognisers; `appearance` and `pose` hold the energies of other networks and `build`
puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..faces.sight import embed_all, embed_originals, scale_landmarks
from ..images import crop_landmarks
from ..protocols import FaceRecognizer
from ..types import FaceCrops


class Energy(Protocol):
    """One term of the guidance."""

    weight: float

    def __call__(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Map embeddings, one (V * N, D) tensor per recogniser, to energies (V * N,)."""
        ...


@dataclass(frozen=True, eq=False)
class PushAway:
    """Move every result away from the identity of its original.

    E_i = mean over recognisers of relu(cos(f(I_i), f(original of i)) - floor).

    Attributes:
        references: One (N, D) embedding tensor per recogniser, of the originals.
        floor: Similarity below which nothing is gained, in [-1, 1]; the paper has 0.
        weight: Factor of this term.

    Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), identity energy.
    Deviations: ensemble mean instead of one network; adjustable floor.
    """

    references: tuple[Tensor, ...]
    floor: float = 0.0
    weight: float = 1.0

    def __call__(self, embeddings: Sequence[Tensor]) -> Tensor:
        terms = []
        for found, reference in zip(embeddings, self.references, strict=True):
            similarity = F.cosine_similarity(found, tile(reference, len(found)), dim=1)
            terms.append(F.relu(similarity - self.floor))
        return torch.stack(terms).mean(dim=0)


@dataclass(frozen=True, eq=False)
class KeepIdentity:
    """Hold every result at the identity of its original.

    E_i = mean over recognisers of relu(ceiling - cos(f(I_i), f(original of i))), in [0, 2]
    for the default ceiling, where it is 1 - cos and 0 only for parallel embeddings.

    Attributes:
        references: One (N, D) embedding tensor per recogniser, of the originals.
        ceiling: Similarity above which nothing is gained, in [-1, 1]; the paper has 1.
        weight: Factor of this term.

    Source: Diff-Privacy (He et al. 2023, arXiv 2309.05330), energy of visual identity hiding.
    Deviations: ensemble mean instead of one network; adjustable ceiling; result and original
        are aligned alike (released: whole frame against aligned crop).
    """

    references: tuple[Tensor, ...]
    ceiling: float = 1.0
    weight: float = 1.0

    def __call__(self, embeddings: Sequence[Tensor]) -> Tensor:
        terms = []
        for found, reference in zip(embeddings, self.references, strict=True):
            similarity = F.cosine_similarity(found, tile(reference, len(found)), dim=1)
            terms.append(F.relu(self.ceiling - similarity))
        return torch.stack(terms).mean(dim=0)


@dataclass(frozen=True, eq=False)
class Diversity:
    """Move the variants of one face away from each other.

    E_i = 1/2 sum over the other variants j of the same face of relu(cos(f(I_i), f(I_j)) - floor),
    so the sum over all results counts every pair once. Mean over recognisers.

    Attributes:
        num_faces: Faces N in the batch.
        floor: Similarity below which nothing is gained.
        weight: Factor of this term.

    Source: Diff-Privacy (arXiv 2309.05330), diversity energy, for any number of variants.
    """

    num_faces: int
    floor: float = 0.0
    weight: float = 1.0

    def __call__(self, embeddings: Sequence[Tensor]) -> Tensor:
        terms = []
        for found in embeddings:
            variants = F.normalize(found, dim=1).view(-1, self.num_faces, found.shape[1])
            similarity = torch.einsum("vnd,wnd->nvw", variants, variants)
            off_diagonal = 1.0 - torch.eye(variants.shape[0], device=found.device, dtype=found.dtype)
            pairs = F.relu(similarity - self.floor) * off_diagonal
            terms.append(0.5 * pairs.sum(dim=2).T.reshape(-1))
        return torch.stack(terms).mean(dim=0)


@dataclass(frozen=True, eq=False)
class IdentityEnergy:
    """Weighted sum of energies over one pass through the recognisers.

    Attributes:
        recognizers: Differentiable recognisers the energies look through.
        landmarks5: (N, 5, 2) landmarks of the originals in crop pixels; found once, they
            fix the alignment for every step.
        crop_size: Side S0 of the crops the landmarks refer to.
        terms: Energies to add up.
    """

    recognizers: tuple[FaceRecognizer, ...]
    landmarks5: Tensor
    crop_size: int
    terms: tuple[Energy, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the energy of each image, (V * N,).

        Args:
            images: (V * N, 3, S, S) in [0, 1].

        Raises:
            InputError: The batch is not a whole number of variants.
        """
        landmarks = scale_landmarks(self.landmarks5.to(images.device), self.crop_size, images.shape[-1])
        embeddings = embed_all(self.recognizers, images, tile(landmarks, len(images)))
        return sum(term.weight * term(embeddings) for term in self.terms)  # type: ignore[return-value]


def see_originals(
    originals: Tensor, crops: FaceCrops, recognizers: Sequence[FaceRecognizer]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Find what the energies compare with: where the faces are and who they are.

    Args:
        originals: (N, 3, S, S) crops in [0, 1], on the device of the computation.
        crops: Their placement; the size may differ.
        recognizers: Differentiable recognisers.

    Returns:
        (N, 5, 2) landmarks in pixels of `originals`, and one (N, D) embedding tensor per recogniser.

    Raises:
        InputError: The crops and their placement differ in number, or there is no recogniser.
        UnsupportedModelError: A recogniser gives no gradient.
    """
    if len(originals) != len(crops) or not recognizers:
        raise InputError(
            f"Expected {len(crops)} original crops and at least one recogniser, got {len(originals)} and {len(recognizers)}. "
            "Give the crops as they were cut, and recognisers."
        )
    landmarks = original_landmarks(originals, crops)
    return landmarks, embed_originals(recognizers, originals, landmarks)


def original_landmarks(originals: Tensor, crops: FaceCrops) -> Tensor:
    """Return the landmarks (N, 5, 2) of crops in pixels of `originals` (N, 3, S, S), on their device.

    Raises:
        InputError: There is not one crop for each placement.
    """
    if len(originals) != len(crops):
        raise InputError(f"Expected {len(crops)} original crops, got {len(originals)}. Give the crops as they were cut.")
    with torch.inference_mode(False):
        return scale_landmarks(crop_landmarks(crops), crops.size, originals.shape[-1]).to(originals.device)


def tile(values: Tensor, count: int) -> Tensor:
    """Repeat values (N, ...) of the faces for `count` results, variant by variant.

    Raises:
        InputError: The results are not a whole number of variants.
    """
    if count % len(values):
        raise InputError(f"Expected a multiple of {len(values)} images (the faces guided for), got {count}.")
    return values.repeat(count // len(values), *[1] * (values.ndim - 1))
