"""diffusers' UNets behind the denoiser contract."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from ...errors import UnsupportedModelError
from ..schedules import NoiseSchedule


class Prediction(str, Enum):
    """What a network was trained to predict."""

    EPSILON = "epsilon"
    V = "v_prediction"
    FLOW = "flow_prediction"


class ConditionalUNet(Protocol):
    """The part of `UNet2DConditionModel` that is used."""

    def __call__(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool
    ) -> tuple[Tensor, ...]: ...


class DiffusersDenoiser:
    """Adapter from a diffusers UNet to the contract `denoised = model(x, sigma, cond)`.

    Args:
        unet: Network with the call signature of `UNet2DConditionModel`.
        schedule: Noise levels it was trained on.
        prediction: `epsilon`, `v_prediction` or `flow_prediction`, as in the scheduler's `prediction_type`.

    Attributes:
        evaluations: Network calls so far, one for each call of the adapter.

    Raises:
        UnsupportedModelError: Another prediction type.

    Notation: sigma is sqrt((1 - abar) / abar); c_in = 1 / sqrt(1 + sigma^2). A flow mixes
        z = (1 - s) x0 + s noise, so sigma = s / (1 - s), and z = x / (1 + sigma).
    Source: Karras et al. (2022), table 1, column VP; Salimans & Ho (2022) for v; Liu et al.
        (2023), rectified flow, whose network predicts noise - x0.
    """

    def __init__(self, unet: ConditionalUNet, schedule: NoiseSchedule, prediction: str = Prediction.EPSILON.value) -> None:
        if prediction not in [p.value for p in Prediction]:
            raise UnsupportedModelError(
                f"Expected a model that predicts one of {[p.value for p in Prediction]}, got {prediction!r}."
            )
        self.unet = unet
        self.schedule = schedule
        self.prediction = Prediction(prediction)
        self.evaluations = 0

    def __call__(self, x: Tensor, sigma: Tensor | float, cond: Tensor) -> Tensor:
        """Denoise x (B, C, h, w); cond is (B, L, D) or (1, L, D)."""
        self.evaluations += 1
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(x.shape[0])
        level = sigma.view(-1, 1, 1, 1)
        cond = cond.expand(x.shape[0], -1, -1) if cond.shape[0] == 1 else cond
        if self.prediction is Prediction.FLOW:
            z, s = x / (1.0 + level), sigma / (1.0 + sigma)
            velocity = self.unet(z, len(self.schedule) * s, cond, return_dict=False)[0]
            return z - s.view(-1, 1, 1, 1) * velocity
        c_in = (1.0 + level**2).rsqrt()
        timestep = self.schedule.timestep(sigma)
        output = self.unet(x * c_in, timestep, cond, return_dict=False)[0]
        if self.prediction is Prediction.EPSILON:
            return x - level * output
        return x * c_in**2 - output * level * c_in
