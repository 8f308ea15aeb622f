"""Noise levels of the host's models, and their estimates in the coordinates of the core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import torch
from torch import Tensor

from ..faceprivacy_core.diffusion.schedules import NoiseSchedule
from ..faceprivacy_core.errors import UnsupportedModelError
from . import _host


@dataclass(frozen=True, eq=False)
class HostLevels:
    """How a MODEL counts noise.

    A model that predicts noise or v gets x = x0 + sigma noise, as the core has it. A flow gets the mix z = (1 - t) x0 + t noise
    at level t = sigma / (1 + sigma); that is x / (1 + sigma), and Euler's step from level to level is the same in both.

    Attributes:
        schedule: Noise levels sigma of the training timesteps; the last one of a flow, pure noise, is half a timestep lower.
        is_flow: Whether the host's levels are those of a flow.
    """

    schedule: NoiseSchedule
    is_flow: bool

    def of_host(self, sigmas: Tensor) -> Tensor:
        """Turn noise levels of the core into those that the host's samplers take, float32."""
        return (sigmas / (1.0 + sigmas) if self.is_flow else sigmas).float()

    def of_core(self, level: float) -> float:
        """Turn a level of the host's samplers into the core's; infinite for the pure noise of a flow."""
        if not self.is_flow:
            return level
        return level / (1.0 - level) if level < 1.0 else math.inf

    def latent_of_host(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Scale a latent (B, C, h, w) of the core at level sigma, a number or (B,), for the host."""
        return x / (1.0 + torch.as_tensor(sigma, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)) if self.is_flow else x

    def denoise(self, model_k: Any, x: Tensor, sigma: Tensor | float, extra_args: dict[str, Any]) -> Tensor:
        """Ask the model of a running sampler for the estimate of x (B, C, h, w) at a level of the core; cancels."""
        _host.check_interrupted()
        levels = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        return model_k(self.latent_of_host(x, levels), self.of_host(levels), **extra_args)


def levels_of(model: comfy.model_patcher.ModelPatcher) -> HostLevels:
    """Return the noise levels of a host model.

    Raises:
        UnsupportedModelError: It is no image model with latents of two dimensions that predicts noise, v or a flow.
    """
    sampling, latent_format = model.get_model_object("model_sampling"), model.get_model_object("latent_format")
    kinds = comfy.model_sampling
    predicts = isinstance(sampling, kinds.EPS | kinds.V_PREDICTION) and isinstance(sampling, kinds.ModelSamplingDiscrete)
    flows = isinstance(sampling, kinds.ModelSamplingDiscreteFlow | kinds.ModelSamplingFlux)
    mixes = isinstance(sampling, kinds.CONST) and not isinstance(sampling, kinds.IMG_TO_IMG_FLOW)
    is_flow = flows and mixes and getattr(sampling, "noise_scale", 1.0) == 1.0
    if not (predicts or is_flow) or latent_format.latent_dimensions != 2:
        name = type(model.model).__name__
        raise UnsupportedModelError(
            "Expected a MODEL that predicts noise or v on a discrete schedule (SD1.x, SD2.x, SDXL or the built-in face model) "
            f"or a flow (SD3, Flux), got {name} with {type(sampling).__mro__[1].__name__} sampling. Connect a model of those "
            "families."
        )
    levels = sampling.sigmas.detach().double().cpu()
    if is_flow:
        levels[-1] = (levels[-2] + 1.0) / 2.0  # 1 is pure noise, whose level is infinite in the core's coordinates
        levels = levels / (1.0 - levels)
    return HostLevels(NoiseSchedule(levels), is_flow)
