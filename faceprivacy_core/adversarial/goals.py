"""What recognisers shall make of the faces: not this person, or somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .sight import Identities


class Goal(Protocol):
    """The adversarial term. `embeddings` are one (n, D) tensor per recogniser, of the `faces` (n,)."""

    def loss(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        """Return (n,), lower is nearer to the goal."""
        ...

    def is_reached(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        """Return (n,) bool: every recogniser is past its threshold by the margin."""
        ...

    def similarities(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        """Return (n, M), to whom the goal is about."""
        ...


@dataclass(frozen=True, eq=False)
class Dodge:
    """Not this person.

    With a hinge: sum over recognisers of w relu(cos(f(x), f(source)) - (threshold - margin)), which
    is 0 once the goal is reached. Without: sum of w cos. Toward a target, - w cos(f(x), target) is
    added, in both.

    Attributes:
        sources: Who the faces are.
        thresholds: (M,) similarities from which a recogniser says "the same person".
        margin: How far below them the similarities shall fall.
        weights: (M,) of the recognisers; None weighs all 1. They add up and are not averaged.
        hinge: See above.
        target: One other identity, or one for each face, to go toward; None is away only.

    Raises:
        InputError: Numbers do not fit, or the target is the source.

    Source: arXiv 2503.10350, obfuscation (its code sums over recognisers).
    Deviations: hinge at calibrated thresholds.
    """

    sources: Identities
    thresholds: Tensor
    margin: float = 0.0
    weights: Tensor | None = None
    hinge: bool = True
    target: Identities | None = None

    def __post_init__(self) -> None:
        _check(self.sources, self.thresholds, self.margin, self.weights)
        if self.target is not None:
            _check_other_person(self.sources, self.target, self.thresholds)

    def loss(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        similarities = self.similarities(embeddings, faces)
        terms = F.relu(similarities - self._aim(similarities)) if self.hinge else similarities
        if self.target is not None:
            terms = terms - self.target.similarities(embeddings, faces)
        return (_weights(self.weights, terms) * terms).sum(dim=1)

    def is_reached(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        similarities = self.similarities(embeddings, faces)
        return (similarities < self._aim(similarities)).all(dim=1)

    def similarities(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        return self.sources.similarities(embeddings, faces)

    def _aim(self, like: Tensor) -> Tensor:
        return self.thresholds.to(like) - self.margin


@dataclass(frozen=True, eq=False)
class Resemble:
    """This person.

    Sum over recognisers of w relu(threshold + margin - cos(f(x), target)), or of w (1 - cos)
    without hinge.

    Attributes:
        target: One identity, or one for each face.
        thresholds, margin, weights, hinge: See `Dodge`; here the similarities shall rise above.

    Raises:
        InputError: Numbers do not fit.
    """

    target: Identities
    thresholds: Tensor
    margin: float = 0.0
    weights: Tensor | None = None
    hinge: bool = True

    def __post_init__(self) -> None:
        _check(self.target, self.thresholds, self.margin, self.weights)

    def loss(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        similarities = self.similarities(embeddings, faces)
        terms = F.relu(self._aim(similarities) - similarities) if self.hinge else 1.0 - similarities
        return (_weights(self.weights, terms) * terms).sum(dim=1)

    def is_reached(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        similarities = self.similarities(embeddings, faces)
        return (similarities > self._aim(similarities)).all(dim=1)

    def similarities(self, embeddings: Sequence[Tensor], faces: Tensor) -> Tensor:
        return self.target.similarities(embeddings, faces)

    def _aim(self, like: Tensor) -> Tensor:
        return self.thresholds.to(like) + self.margin


@dataclass(frozen=True, eq=False)
class Impersonate(Resemble):
    """Somebody else, whose picture the user supplies.

    It can be used to deceive a recogniser about a real person, so it wants the user's word.

    Attributes:
        sources: Who the faces are.
        acknowledged: The user has read this and has the person's consent.

    Raises:
        InputError: It is not acknowledged, numbers do not fit, or the target is the source.

    Source: arXiv 2503.10350, impersonation.
    """

    sources: Identities = field(kw_only=True)
    acknowledged: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_acknowledged(self.acknowledged)
        super().__post_init__()
        _check_other_person(self.sources, self.target, self.thresholds)


def check_acknowledged(acknowledged: bool) -> None:
    """Refuse to imitate somebody without the user's word; InputError."""
    if acknowledged is not True:
        raise InputError(
            "Expected an acknowledgement that the target person consents to being imitated, got none. "
            "Set it, or use dodging, which needs no target."
        )


def _weights(weights: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if weights is None else weights.to(like)


def _check(identities: Identities, thresholds: Tensor, margin: float, weights: Tensor | None) -> None:
    count = len(identities.vectors)
    if thresholds.shape != (count,) or (weights is not None and weights.shape != (count,)):
        raise InputError(
            f"Expected one threshold and one weight for each of {count} recognisers, got thresholds of shape "
            f"{tuple(thresholds.shape)} and weights of shape {None if weights is None else tuple(weights.shape)}."
        )
    if weights is not None and not (bool((weights >= 0).all()) and bool(weights.sum() > 0)):
        raise InputError(f"Expected recogniser weights of at least 0, not all 0, got {weights.tolist()}.")
    if not 0.0 <= margin <= 1.0:
        raise InputError(f"Expected a margin in [0, 1], got {margin}.")


def check_as_many(sources: Identities, target: Identities) -> None:
    """Check that there is one target for all faces, or one for each; InputError."""
    if len(target) not in (1, len(sources)) or len(target.vectors) != len(sources.vectors):
        raise InputError(
            f"Expected one target identity, or one for each of {len(sources)} faces, seen by {len(sources.vectors)} "
            f"recognisers, got {len(target)} seen by {len(target.vectors)}."
        )


def _check_other_person(sources: Identities, target: Identities, thresholds: Tensor) -> None:
    check_as_many(sources, target)
    similarities = target.similarities(sources.vectors, torch.arange(len(sources)))
    if bool((similarities >= thresholds.to(similarities)).any()):
        raise InputError(
            "Expected a target picture of another person, got one that a recogniser takes for the person in the picture "
            f"(similarity {float(similarities.max()):.2f}). Choose somebody who looks different."
        )
