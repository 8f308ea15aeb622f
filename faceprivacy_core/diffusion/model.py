"""The one contract between methods and models: what a latent diffusion model does, and what it can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import UnsupportedModelError
from ..fingerprints import fingerprint
from ..protocols import Denoiser
from .attention import Recording
from .schedules import NoiseSchedule

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Condition:
    """What a model is told.

    Attributes:
        tokens: (B, L, D) for cross-attention, or (1, L, D) for every item alike.
        pooled: (B, P) or (1, P) second part, for SDXL; None elsewhere.
    """

    tokens: Tensor = field(repr=False)
    pooled: Tensor | None = field(default=None, repr=False)

    def telling(self, tokens: Tensor) -> Condition:
        """Return the condition with other tokens (B, L, D) and the same second part; gradients pass."""
        return Condition(tokens, self.pooled)


class Capability(str, Enum):
    """What not every model can do; the value completes "a model ..."."""

    ATTENTION = "whose self-attention can be recorded"
    GRADIENT = "that gradients pass through"
    IMAGE_TOKENS = "that reads tokens off a picture in one pass"
    DONORS = "that brings a bank of faces of nobody"
    EXACT = "that computes in float32, so that every step can be repeated backwards"
    SHORT_CUT = "whose truncated gradient agrees with the full one"
    DETAIL = "that draws a crop at twice its side"


ADVICE = {
    Capability.ATTENTION: "Use a UNet (SD 1.x, SD 2.x, SDXL, built-in), or set the structure weight to 0.",
    Capability.GRADIENT: "Load it without quantisation.",
    Capability.IMAGE_TOKENS: "Learn them instead: set the learning steps above 0.",
    Capability.DONORS: "Use the built-in model, or the look of the person, pushed away.",
    Capability.EXACT: "Load it in fp32, or use mode latent or exact.",
    Capability.SHORT_CUT: "Leave the gradient whole.",
    Capability.DETAIL: "Paste its crops as they are.",
}


class Part(str, Enum):
    """A network of a model."""

    UNET = "unet"
    VAE = "vae"
    TEXT_ENCODER = "text_encoder"


@dataclass(frozen=True)
class ModelIdentity:
    """Which model an inversion belongs to.

    Attributes:
        name: For people.
        unet, vae, text_encoder: Fingerprints; empty where there is none or none was taken.
    """

    name: str
    unet: str = ""
    vae: str = ""
    text_encoder: str = ""


class LatentModel(Protocol):
    """A frozen latent diffusion model with its autoencoder, whichever program runs it.

    Latents are float32 in the model's own space, of about unit variance; noise levels are those of VE coordinates. All
    tensors are on `device`. Gradients pass through every method where autograd is on, if `GRADIENT` is among the capabilities.

    Attributes:
        name: For people.
        family: Such as "SDXL"; for people, too.
        resolution: Side S of the crops it wants, pixels; a multiple of 8 and of `factor`.
        channels: Channels C of its latents.
        factor: Side of a crop divided by the side of its latent.
        device: Where it computes.
        schedule: Noise levels of its training timesteps.
        empty: The empty condition, of one item.
        face: The condition under which it draws any face: the empty one for a model of faces, a word for others.
        capabilities: What it can do besides.
        at_once: Crops that may be in memory together while gradients are wanted.

    With `DONORS` it has `donors`, too, a `builtin.donors.DonorBank`; with `DETAIL` it has `enlarge`, an `images.Enlarge`.
    """

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def resolution(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def factor(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def schedule(self) -> NoiseSchedule: ...

    @property
    def empty(self) -> Condition: ...

    @property
    def face(self) -> Condition: ...

    @property
    def at_once(self) -> int: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def denoise(self, x: Tensor, sigma: Tensor | float, cond: Any) -> Tensor:
        """Return the denoised estimate of x (B, C, h, w); a `protocols.Denoiser`, whose condition is a `Condition`."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] to clean latents (B, C, h, w), the mode of the posterior."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images, about [0, 1], not clipped, because clipped pixels give no gradient."""
        ...

    def read_tokens(self, latents: Tensor) -> Mapping[str, Tensor]:
        """Read tokens (B, L, D) off clean latents in one pass, by encoder.

        Raises:
            UnsupportedModelError: `IMAGE_TOKENS` is not among the capabilities.
        """
        ...

    def first_tokens(self, count: int) -> dict[str, Tensor]:
        """Return `count` tokens to begin learning with, (n, D) float32 by encoder.

        Raises:
            InputError: A condition has no room for so many.
        """
        ...

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Turn tokens (B, n, D) by encoder into the condition of a batch of B."""
        ...

    def record(self) -> AbstractContextManager[Recording]:
        """Open a recording of the self-attention.

        Raises:
            UnsupportedModelError: `ATTENTION` is not among the capabilities.
        """
        ...

    def run(self, job: Callable[[Denoiser], Result], shape: Sequence[int]) -> Result:
        """Run a job that may call the denoiser it is given as often as it likes.

        A host makes room and loads weights first; `denoise` works inside such a job, and everywhere for the core's own models.

        Args:
            job: Called once.
            shape: (B, C, h, w) of the largest batch.
        """
        ...

    def weights(self, part: Part) -> Iterable[tuple[str, Tensor]]:
        """Return the weights of a part by name, in an order that stays, for its fingerprint; none if there is no such part."""
        ...


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut a sequence into pieces of at most `size` items, in order."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def identity_of(model: LatentModel) -> ModelIdentity:
    """Return name and fingerprints of a model, which change with any weight."""
    return ModelIdentity(model.name, **{part.value: fingerprint_of(model, part) for part in Part})


def fingerprint_of(model: LatentModel, *parts: Part) -> str:
    """Return 32 hexadecimal digits that change with any weight of some parts; "" where they have none."""
    weights = chain.from_iterable(model.weights(part) for part in parts)
    first = next(weights, None)
    return "" if first is None else fingerprint(chain([first], weights))


def enlarger(model: LatentModel) -> Callable[[Tensor], Tensor] | None:
    """Return what draws crops of a model with more pixels, for `images.paste_faces`; None if nothing does."""
    return model.enlarge if Capability.DETAIL in model.capabilities else None


def require(model: LatentModel, capability: Capability, purpose: str) -> None:
    """Make sure that a model can do what a method needs.

    Args:
        model: The model.
        capability: What is needed.
        purpose: What for, to complete "for ...".

    Raises:
        UnsupportedModelError: It cannot; one sentence says what to do.
    """
    if capability not in model.capabilities:
        raise UnsupportedModelError(
            f"Expected for {purpose} a model {capability.value}, got {model.name} ({model.family}). {ADVICE[capability]}"
        )
