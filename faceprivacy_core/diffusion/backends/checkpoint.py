"""A user's checkpoint behind the contract: SD 1.x, SD 2.x, SDXL, SD3 and Flux, run by diffusers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError, UnsupportedModelError
from ...fingerprints import named_weights
from ...protocols import Denoiser
from ..attention import Recording, record_self_attention
from ..checkpointing import checkpointed_blocks
from ..model import ADVICE, Capability, Condition, Part, Result
from ..schedules import NoiseSchedule
from .diffusers import DiffusersDenoiser, Prediction
from .words import Words


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A `diffusion.model.LatentModel` of diffusers' networks.

    The autoencoder computes in float32, whatever the others do: in half precision that of SDXL overflows.

    Attributes:
        name, family, resolution: See `LatentModel`.
        denoiser: UNet behind the denoiser contract.
        vae: An AutoencoderKL of diffusers.
        words: Its text encoders.
        at_once: Crops in memory together.
    """

    name: str
    family: str
    resolution: int
    denoiser: DiffusersDenoiser = field(repr=False)
    vae: Any = field(repr=False)
    words: Words = field(repr=False)
    at_once: int = 1

    def __post_init__(self) -> None:
        self.denoiser.unet.enable_gradient_checkpointing()
        if self.resolution < 8 * self.factor or self.resolution % (8 * self.factor):
            raise InputError(
                f"Expected a crop size that is a multiple of {8 * self.factor} pixels, got {self.resolution}. Take "
                f"{max(1, round(self.resolution / 8 / self.factor)) * 8 * self.factor}."
            )

    @property
    def channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def factor(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        return next(self.vae.parameters()).device

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    @property
    def empty(self) -> Condition:
        return self._told("empty", self.words.empty)

    @property
    def face(self) -> Condition:
        return self._told("face", self.words.face)

    @property
    def capabilities(self) -> frozenset[Capability]:
        exact = {Capability.EXACT} if self.denoiser.unet.dtype == torch.float32 else set()
        maps = {Capability.ATTENTION} if self.denoiser.prediction is not Prediction.FLOW else set()
        return frozenset({Capability.GRADIENT} | maps | exact)

    def denoise(self, x: Tensor, sigma: Tensor | float, cond: Condition | Tensor) -> Tensor:
        """Denoise x (B, C, h, w); without a gradient a few items at a time."""
        if torch.is_grad_enabled() or len(x) <= self.at_once:
            return self.denoiser(x, sigma, cond)
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        told = cond if isinstance(cond, Condition) else Condition(cond)
        parts = []
        for start in range(0, len(x), self.at_once):
            some = slice(start, start + self.at_once)
            parts.append(self.denoiser(x[some], levels[some], _rows(told, some)))
        return torch.cat(parts)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] to latents, the mode of the posterior."""
        return self._in_parts(self._encode, images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images, about [0, 1], not clipped."""
        return self._in_parts(self._decode, latents)

    def read_tokens(self, latents: Tensor) -> Mapping[str, Tensor]:
        """Refuse: only the built-in model has an encoder for tokens."""
        raise UnsupportedModelError(
            f"Expected a model {Capability.IMAGE_TOKENS.value}, got {self.name} ({self.family}). "
            f"{ADVICE[Capability.IMAGE_TOKENS]}"
        )

    def first_tokens(self, count: int) -> dict[str, Tensor]:
        """Return the word "face" `count` times, by text encoder."""
        return self.words.first(count)

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Encode learned words (B, n, D) by text encoder; gradients pass."""
        return self.words.condition(tokens)

    @contextmanager
    def record(self) -> Iterator[Recording]:
        """Record the UNet's self-attention; blocks that were computed again for a gradient would be recorded twice."""
        unet = self.denoiser.unet
        unet.disable_gradient_checkpointing()
        try:
            with record_self_attention(unet) as recording:
                yield recording
        finally:
            unet.enable_gradient_checkpointing()

    def run(self, job: Callable[[Denoiser], Result], shape: Sequence[int]) -> Result:
        """Run a job; there is nothing to prepare."""
        return job(self.denoise)

    def weights(self, part: Part) -> Iterator[tuple[str, Tensor]]:
        """Return the weights of a part in bfloat16, to which they round alike in whichever type they were loaded."""
        encoders = {name: encoder.network for name, encoder in self.words.encoders.items()}
        networks = {Part.UNET: {"": self.denoiser.unet}, Part.VAE: {"": self.vae}, Part.TEXT_ENCODER: encoders}[part]
        for name, network in networks.items():
            for key, weight in named_weights(network):
                yield f"{name}{'.' if name else ''}{key}", weight.to(torch.bfloat16)
        if part is Part.VAE:
            yield "scale", torch.tensor(self._scale)
        if part is Part.UNET:
            yield self.denoiser.prediction.value, self.schedule.sigmas.float()

    def to(self, device: torch.device | str) -> Checkpoint:
        """Move all networks in place and return the model."""
        networks: list[nn.Module] = [self.denoiser.unet, self.vae, *(one.network for one in self.words.encoders.values())]
        for network in networks:
            network.to(device)
        self.__dict__.pop("_conditions", None)
        return self

    @property
    def _scale(self) -> tuple[float, float]:
        """Factor and shift between the autoencoder's latents and the model's."""
        return float(self.vae.config.scaling_factor), float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    def _encode(self, images: Tensor) -> Tensor:
        factor, shift = self._scale
        return (self.vae.encode(images.float() * 2.0 - 1.0, return_dict=False)[0].mode() - shift) * factor

    def _decode(self, latents: Tensor) -> Tensor:
        factor, shift = self._scale
        with checkpointed_blocks(self.vae.decoder) if torch.is_grad_enabled() else nullcontext():
            return (self.vae.decode(latents.float() / factor + shift, return_dict=False)[0] + 1.0) / 2.0

    def _in_parts(self, network: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        return network(values) if torch.is_grad_enabled() else torch.cat([network(part) for part in values.split(self.at_once)])

    def _told(self, name: str, make: Callable[[], Condition]) -> Condition:
        known = self.__dict__.setdefault("_conditions", {})
        if name not in known:
            with torch.inference_mode(False), torch.no_grad():
                known[name] = make()
        return known[name]


def _rows(told: Condition, some: slice) -> Condition:
    """Return some rows of a condition; a part of one row is for all."""
    tokens, pooled = (
        part if part is None or len(part) == 1 else part[some] for part in (told.tokens, told.pooled)
    )  # fmt: skip
    return Condition(tokens, pooled)
