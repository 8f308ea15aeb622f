"""What of an inversion is saved: everything but the conditions, which follow from the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..embeddings.inversion import FaceInversion, ModelIdentity, NoiseMap, StageTokens
from ..errors import InputError
from ..types import FaceCrops

STORED_DTYPE = torch.float16
ENCODERS = ("l", "g", "h", "t5", "unet")


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions that follow from tokens; fields as in `FaceInversion`."""

    stages: Tensor
    empty: Tensor
    pooled: Tensor | None = None
    empty_pooled: Tensor | None = None


MakeConditions = Callable[[Mapping[str, StageTokens]], Conditions]
"""Turns tokens by text encoder into conditions: by way of a text encoder, or `conditions_of_tokens`."""


@dataclass(frozen=True, eq=False)
class StoredInversion:
    """Contents of a file.

    Attributes:
        model: With fingerprints of denoiser, autoencoder and, where tokens need one, text encoder.
        tokens: By text encoder, at least one.
        noise: Noise map of N faces.
        crops: Placement of the N faces.
        picture_digest: Of the protected picture, see `checks.picture_digest`; "" where none was given.
    """

    model: ModelIdentity
    tokens: Mapping[str, StageTokens]
    noise: NoiseMap
    crops: FaceCrops = field(repr=False)
    picture_digest: str = ""

    def __post_init__(self) -> None:
        counts = {tokens.offsets.shape[1] for tokens in self.tokens.values()} | {len(self.noise.latent), len(self.crops)}
        if not self.tokens or not set(self.tokens) <= set(ENCODERS) or len(counts) != 1:
            raise InputError(
                f"Expected tokens for some of {', '.join(ENCODERS)}, noise and placement of equally many faces, got tokens for "
                f"{', '.join(self.tokens) or 'none'} and counts {sorted(counts)}. Save the inversion as inverting gave it."
            )
        if set(self.tokens) != {"unet"} and not self.model.text_encoder:
            raise InputError(
                "Expected the fingerprint of the text encoder with tokens for it, got none. Give it when inverting."
            )

    def with_conditions(self, make: MakeConditions) -> FaceInversion:
        """Return the inversion, ready for sampling.

        Args:
            make: Called once with the tokens in float32.
        """
        made = make(self.tokens)
        return FaceInversion(
            made.stages, made.empty, self.model, made.pooled, made.empty_pooled, self.tokens, self.noise, self.crops
        )


def stored_part(inversion: FaceInversion, *, picture_digest: str = "") -> StoredInversion:
    """Return what is saved of an inversion.

    Raises:
        InputError: Without tokens, noise map, placement or the model's fingerprints the faces could
            not come back.
    """
    missing = [
        name
        for name, there in (
            ("tokens", inversion.tokens),
            ("a noise map", inversion.noise),
            ("the placement of the crops", inversion.crops),
            ("fingerprints of model and VAE", inversion.model.unet and inversion.model.vae),
        )
        if not there
    ]
    if missing or inversion.noise is None or inversion.crops is None:
        raise InputError(
            f"Expected an inversion from which the faces can come back, got one without {' and without '.join(missing)}. "
            "Invert again with 'noise_map' and 'crops'."
        )
    return StoredInversion(inversion.model, inversion.tokens, inversion.noise, inversion.crops, picture_digest)


def as_stored(tokens: StageTokens) -> StageTokens:
    """Round tokens to the precision of the file, so that the noise map is inverted under what comes back."""
    base = None if tokens.base is None else tokens.base.to(STORED_DTYPE).float()
    return StageTokens(tokens.offsets.to(STORED_DTYPE).float(), base)


def conditions_of_tokens(empty: Tensor) -> MakeConditions:
    """Return the way from tokens to conditions where tokens go straight into cross-attention.

    Args:
        empty: (1, L, D) the model's empty condition.

    Raises:
        InputError: When called: the tokens are for a text encoder, or of another width.
    """

    def make(tokens: Mapping[str, StageTokens]) -> Conditions:
        if set(tokens) != {"unet"}:
            raise InputError(
                f"Expected tokens for cross-attention, got tokens for {', '.join(tokens)}. This inversion needs the text "
                "encoder of its model."
            )
        stages = tokens["unet"].stacked()
        if stages.shape[-1] != empty.shape[-1]:
            raise InputError(
                f"Expected tokens of width {empty.shape[-1]} for this model, got {stages.shape[-1]}. Use the file as it was "
                "written, with its model."
            )
        return Conditions(stages, empty)

    return make
