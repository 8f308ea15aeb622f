"""The gradient of an energy of decoded latents, whole or in parts that need less memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError, NumericalError, UnsupportedModelError

Decode = Callable[[Tensor], Tensor]
"""Latents (B, C, h, w) to images (B, 3, S, S) in about [0, 1], every item by itself."""

ImageEnergy = Callable[[Tensor], Tensor]
"""Images (B, 3, S, S) to energies (B,), which may depend on all images."""


def energy_gradient(
    denoised: Tensor, decode: Decode, energy: ImageEnergy, *, micro_batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """Differentiate the energy of the decoded estimate.

    Args:
        denoised: (B, C, h, w) estimate of the clean latent. Not modified; the network
            that made it is not differentiated.
        decode: Latents to images; differentiable.
        energy: Images to energies (B,); differentiable. It always sees all B images, so it
            may couple them.
        micro_batch: Items the decoder keeps in memory for its gradient at one time; every item
            is then decoded twice. None decodes all B once.

    Returns:
        The gradient, shaped like `denoised`, and the energies (B,), both detached.

    Raises:
        InputError: `micro_batch` is below 1.
        UnsupportedModelError: The energy does not depend on the latent.
        NumericalError: Gradient or energy is not finite.

    Laws: every `micro_batch` gives the same gradient and energies.
    """
    if micro_batch is not None and micro_batch < 1:
        raise InputError(f"Expected a micro-batch of at least 1, got {micro_batch}.")
    is_whole = micro_batch is None or micro_batch >= len(denoised)
    with torch.inference_mode(False), torch.enable_grad():
        latents = denoised.detach().clone().to(torch.promote_types(denoised.dtype, torch.float32))
        if is_whole:
            gradient, energies = _differentiate(latents, lambda z: energy(decode(z)))
        else:
            with torch.no_grad():
                images = torch.cat([decode(part) for part in latents.split(micro_batch)])
            upstream, energies = _differentiate(images, energy)
            pairs = zip(latents.split(micro_batch), upstream.split(micro_batch), strict=True)
            gradient = torch.cat([_pull_back(decode, part, of_images) for part, of_images in pairs])
    if not bool(torch.isfinite(gradient).all() and torch.isfinite(energies).all()):
        raise NumericalError(
            "The guidance energy or its gradient is not finite. Run VAE and recognisers in fp32, or lower the strength."
        )
    return gradient.to(denoised.dtype), energies.detach()


def _differentiate(values: Tensor, energy: ImageEnergy) -> tuple[Tensor, Tensor]:
    leaf = values.detach().requires_grad_(True)
    energies = energy(leaf)
    if not energies.requires_grad:
        raise UnsupportedModelError(
            "Expected a VAE and recognisers that gradients pass through, got an energy that does not depend on the latent. "
            "Use the VAE of the model and recognisers that this program loads."
        )
    (gradient,) = torch.autograd.grad(energies.sum(), leaf)
    return gradient, energies


def _pull_back(decode: Decode, latents: Tensor, upstream: Tensor) -> Tensor:
    leaf = latents.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(decode(leaf), leaf, upstream)
    return gradient
