"""The diffusion model as the attack sees it, whichever program runs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..builtin.model import FaceModel
from ..diffusion.schedules import NoiseSchedule
from ..protocols import Denoiser
from .attention import Recording, record_self_attention


def as_it_is(tokens: Tensor) -> Tensor:
    """Return the tokens, for models whose condition is a tensor."""
    return tokens


@dataclass(frozen=True, eq=False)
class Purifier:
    """A frozen latent diffusion model that gradients pass through.

    Attributes:
        model: Denoiser in VE coordinates; takes what `condition` returns.
        schedule: Noise levels of its training timesteps.
        encode: Images (B, 3, S, S) in [0, 1] to clean latents (B, C, h, w); no randomness.
        decode: Latents to images, about [0, 1], every item by itself; differentiable, best not
            clipped, because clipped pixels give no gradient.
        empty: (1, L, D) tokens of the empty condition, on the device of the computation.
        resolution: Side S of the crops the model wants, in pixels.
        record: Opens a recording of the self-attention of `model`.
        condition: Tokens (B, L, D) to what the model takes; gradients pass.
        short_cut: Whether the truncated gradient was measured to agree with the full one at the first level of the
            grid, so that it is the default there; see `agreement.py`.
    """

    model: Denoiser
    schedule: NoiseSchedule
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    empty: Tensor
    resolution: int
    record: Callable[[], AbstractContextManager[Recording]]
    condition: Callable[[Tensor], Any] = as_it_is
    short_cut: bool = False


def builtin_purifier(model: FaceModel, *, bf16: bool = False) -> Purifier:
    """Wrap the built-in face model, on whichever device it is.

    Its truncated gradient has a cosine of 0.97 to 0.99 with the full one at the first level (6 generated faces; 0.83 to
    0.95 at three levels), and protects as well: 33 of 36 held-out decisions both (12 faces).

    Args:
        model: The model.
        bf16: Let UNet and decoder compute in bfloat16; latents, recorded attention, pictures and losses stay float32. Their
            weights are laid out channels-last, which changes no value. On one core with AVX512-BF16 the decoder took 0.6 of
            its time and the UNet 0.9; channels-last made no difference there.
    """
    unet = model.denoiser.unet
    if bf16:
        for network in (unet, model.autoencoder):
            network.to(memory_format=torch.channels_last)
    empty = model.empty_tokens().detach()

    def fast() -> AbstractContextManager[Any]:
        return torch.autocast(empty.device.type, torch.bfloat16, enabled=bf16)

    def denoise(x: Tensor, sigma: float, cond: Tensor) -> Tensor:
        with fast():
            return model.denoiser(x, sigma, cond).to(x)

    def encode(images: Tensor) -> Tensor:
        with torch.no_grad():
            return model.autoencoder.encode(images * 2.0 - 1.0)

    def decode(latents: Tensor) -> Tensor:
        with fast():
            decoded = model.autoencoder.decode(latents)
        return (decoded.to(latents) + 1.0) / 2.0

    return Purifier(
        denoise, model.denoiser.schedule, encode, decode, empty, model.resolution, partial(record_self_attention, unet),
        short_cut=True,
    )  # fmt: skip
