"""Energies on decoded faces: what a result should move away from.

An energy maps images (V * N, 3, S, S) in [0, 1], variant by variant over N faces, to one
value per image. Lower is better; 0 means satisfied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
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
            similarity = F.cosine_similarity(found, _tile(reference, len(found)), dim=1)
            terms.append(F.relu(similarity - self.floor))
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
        if images.shape[0] % len(self.landmarks5):
            raise InputError(
                f"Expected a multiple of {len(self.landmarks5)} images (the faces guided for), got {images.shape[0]}."
            )
        landmarks = scale_landmarks(self.landmarks5.to(images.device), self.crop_size, images.shape[-1])
        embeddings = embed_all(self.recognizers, images, _tile(landmarks, len(images)))
        return sum(term.weight * term(embeddings) for term in self.terms)  # type: ignore[return-value]


def anonymization_energy(
    originals: Tensor, crops: FaceCrops, recognizers: Sequence[FaceRecognizer], *, floor: float, diversity: float
) -> IdentityEnergy:
    """Build the energy that anonymises given crops: away from the originals and from each other.

    Args:
        originals: (N, 3, S, S) crops in [0, 1], on the device of the computation.
        crops: Their placement.
        recognizers: Differentiable recognisers.
        floor: See `PushAway` and `Diversity`.
        diversity: Weight of the push between variants.

    Raises:
        InputError: The crops and their placement differ in number, or there is no recogniser.
    """
    if len(originals) != len(crops) or not recognizers:
        raise InputError(
            f"Expected {len(crops)} original crops and at least one recogniser, got {len(originals)} and {len(recognizers)}. "
            "Connect the image of Face Crop and Load Face Recognizers."
        )
    with torch.inference_mode(False), torch.no_grad():
        landmarks = scale_landmarks(crop_landmarks(crops), crops.size, originals.shape[-1]).to(originals.device)
        references = embed_all(recognizers, originals.clone(), landmarks)
    terms = (PushAway(references, floor), Diversity(len(crops), floor, diversity))
    return IdentityEnergy(tuple(recognizers), landmarks, originals.shape[-1], terms)


def embed_all(recognizers: Sequence[FaceRecognizer], images: Tensor, landmarks5: Tensor) -> tuple[Tensor, ...]:
    """Embed images with every recogniser."""
    return tuple(recognizer.embed(images, landmarks5) for recognizer in recognizers)


def scale_landmarks(landmarks5: Tensor, size: int, new_size: int) -> Tensor:
    """Move landmarks from a picture of one size to a resized copy (pixel-centre rule)."""
    return (landmarks5 + 0.5) * (new_size / size) - 0.5


def _tile(values: Tensor, count: int) -> Tensor:
    return values.repeat(count // len(values), *[1] * (values.ndim - 1))
