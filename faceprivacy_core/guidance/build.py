"""Energies put together by their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from ..errors import InputError
from ..protocols import FaceRecognizer, PerceptualNetwork
from ..types import FaceCrops
from .appearance import LOOK_TARGET, LookDifferent
from .energies import Diversity, Energy, IdentityEnergy, KeepIdentity, PushAway, original_landmarks, see_originals
from .gradient import ImageEnergy
from .pose import KeepLandmarks, Landmarker


@dataclass(frozen=True)
class EnergyWeights:
    """How much each energy counts; 0 leaves it out, with its networks.

    Attributes:
        push_away: Another identity than the original's, see `PushAway`.
        diversity: Other identities than the other variants', see `Diversity`.
        keep_identity: The original's identity, see `KeepIdentity`.
        look_different: Other looks than the original's, see `LookDifferent`.
        keep_landmarks: Eyes, nose and mouth where they were, see `KeepLandmarks`.

    Raises:
        InputError: A weight is negative or not finite.
    """

    push_away: float = 1.0
    diversity: float = 1.0
    keep_identity: float = 0.0
    look_different: float = 0.0
    keep_landmarks: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"Expected a weight {field.name} of at least 0, got {value}.")

    @property
    def needs_recognizers(self) -> bool:
        return max(self.push_away, self.diversity, self.keep_identity) > 0.0

    @property
    def is_zero(self) -> bool:
        return not any(getattr(self, field.name) for field in fields(self))


ANONYMISE = EnergyWeights()
"""Somebody else for recognisers, and every variant another one. The paper's anonymisation."""

HIDE = EnergyWeights(push_away=0.0, diversity=0.0, keep_identity=1.0)
"""The same person for recognisers; noise and the empty prompt change the looks. The paper's hiding.

A weight of 1.5 for `look_different` raises the perceptual distance by a third on the built-in model
(64 faces), by texture that looks like dirt rather than by another face.
"""


@dataclass(frozen=True, eq=False)
class CombinedEnergy:
    """Weighted sum of energies of images.

    Attributes:
        parts: Pairs of a weight and an energy.
    """

    parts: tuple[tuple[float, ImageEnergy], ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the energy (V * N,) of images (V * N, 3, S, S) in [0, 1], on their device."""
        return sum(weight * part(images).to(images.device) for weight, part in self.parts)  # type: ignore[return-value]


def build_energy(
    originals: Tensor,
    crops: FaceCrops,
    recognizers: Sequence[FaceRecognizer],
    weights: EnergyWeights = ANONYMISE,
    *,
    floor: float = 0.0,
    ceiling: float = 1.0,
    look_target: float = LOOK_TARGET,
    perceptual: Callable[[], PerceptualNetwork] | None = None,
    landmarker: Callable[[], Landmarker] | None = None,
    mask: Tensor | None = None,
) -> CombinedEnergy:
    """Build the energy of results of given crops.

    Args:
        originals: (N, 3, S, S) crops in [0, 1], on the device of the computation.
        crops: Their placement.
        recognizers: Differentiable recognisers; may be empty if no energy of identity counts.
        weights: How much each energy counts.
        floor: See `PushAway` and `Diversity`.
        ceiling: See `KeepIdentity`.
        look_target: See `LookDifferent`.
        perceptual: Loads the network of `LookDifferent`; called only when it counts.
        landmarker: Loads the network of `KeepLandmarks`; called only when it counts.
        mask: (N, 1, S, S) in [0, 1], where looks count; None is everywhere.

    Returns:
        Images (V * N, 3, S', S') in [0, 1], variant by variant for any V, to energies (V * N,).

    Raises:
        InputError: All weights are 0, crops and placement differ in number, a network that
            counts is missing, a crop shows no face to it, or the mask does not fit.
        UnsupportedModelError: A recogniser gives no gradient.

    Laws: linear in the weights; a network of weight 0 is neither loaded nor run.
    """
    if weights.is_zero:
        raise InputError("Expected at least one energy with a weight above 0, got none. Raise a weight or leave guidance out.")
    parts: list[tuple[float, ImageEnergy]] = []
    if weights.needs_recognizers:
        parts.append((1.0, _identity_energy(originals, crops, recognizers, weights, floor, ceiling)))
    landmarks = original_landmarks(originals, crops)
    if weights.look_different > 0.0:
        network = _load(perceptual, "look_different", "perceptual")
        parts.append((weights.look_different, LookDifferent(originals, network, look_target, mask)))
    if weights.keep_landmarks > 0.0:
        network = _load(landmarker, "keep_landmarks", "landmarker")
        parts.append((weights.keep_landmarks, KeepLandmarks.of_originals(network, originals, landmarks)))
    return CombinedEnergy(tuple(parts))


def _identity_energy(
    originals: Tensor,
    crops: FaceCrops,
    recognizers: Sequence[FaceRecognizer],
    weights: EnergyWeights,
    floor: float,
    ceiling: float,
) -> IdentityEnergy:
    landmarks, references = see_originals(originals, crops, recognizers)
    terms: tuple[Energy, ...] = (
        PushAway(references, floor, weights.push_away),
        Diversity(len(crops), floor, weights.diversity),
        KeepIdentity(references, ceiling, weights.keep_identity),
    )
    return IdentityEnergy(tuple(recognizers), landmarks, originals.shape[-1], tuple(term for term in terms if term.weight > 0))


def _load(load: Callable[[], object] | None, weight: str, argument: str) -> object:
    if load is None:
        raise InputError(f"Expected a loader `{argument}` because the weight {weight} is above 0, got none.")
    return load()
