"""diffusers' UNets behind the denoiser contract."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor

from ...errors import UnsupportedModelError
from ..model import Condition
from ..schedules import NoiseSchedule


class Prediction(str, Enum):
    """What a network was trained to predict."""

    EPSILON = "epsilon"
    V = "v_prediction"
    FLOW = "flow_prediction"


class ConditionalUNet(Protocol):
    """The part of `UNet2DConditionModel` that is used."""

    def __call__(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool, **kwargs: Any
    ) -> tuple[Tensor, ...]: ...


class DiffusersDenoiser:
    """Adapter from a diffusers UNet to the contract `denoised = model(x, sigma, cond)`.

    Args:
        unet: Network with the call signature of `UNet2DConditionModel`.
        schedule: Noise levels it was trained on.
        prediction: `epsilon`, `v_prediction` or `flow_prediction`, as in the scheduler's `prediction_type`.
        time_ids: (1, 6) sizes and crop that SDXL is told beside the pooled part of a condition; None elsewhere.

    Attributes:
        evaluations: Network calls so far, one for each call of the adapter.

    Raises:
        UnsupportedModelError: Another prediction type.

    Notation: sigma is sqrt((1 - abar) / abar); c_in = 1 / sqrt(1 + sigma^2). A flow mixes
        z = (1 - s) x0 + s noise, so sigma = s / (1 - s), and z = x / (1 + sigma).
    Source: Karras et al. (2022), table 1, column VP; Salimans & Ho (2022) for v; Liu et al.
        (2023), rectified flow, whose network predicts noise - x0.
    """

    def __init__(
        self,
        unet: ConditionalUNet,
        schedule: NoiseSchedule,
        prediction: str = Prediction.EPSILON.value,
        time_ids: Tensor | None = None,
    ) -> None:
        if prediction not in [p.value for p in Prediction]:
            raise UnsupportedModelError(
                f"Expected a model that predicts one of {[p.value for p in Prediction]}, got {prediction!r}."
            )
        self.unet = unet
        self.schedule = schedule
        self.prediction = Prediction(prediction)
        self.time_ids = time_ids
        self.evaluations = 0

    def __call__(self, x: Tensor, sigma: Tensor | float, cond: Condition | Tensor) -> Tensor:
        """Denoise x (B, C, h, w) in its own type, whatever that of the network.

        Args:
            x: At level sigma, VE coordinates.
            sigma: One level, or (B,).
            cond: A condition of B items or of 1, or its tokens alone.
        """
        self.evaluations += 1
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(x.shape[0])
        level = sigma.view(-1, 1, 1, 1)
        if self.prediction is Prediction.FLOW:
            z, s = x / (1.0 + level), sigma / (1.0 + sigma)
            velocity = self._predict(z, len(self.schedule) * s, cond)
            return z - s.view(-1, 1, 1, 1) * velocity
        c_in = (1.0 + level**2).rsqrt()
        timestep = self.schedule.timestep(sigma)
        output = self._predict(x * c_in, timestep, cond)
        if self.prediction is Prediction.EPSILON:
            return x - level * output
        return x * c_in**2 - output * level * c_in

    def _predict(self, z: Tensor, timestep: Tensor, cond: Condition | Tensor) -> Tensor:
        told = cond if isinstance(cond, Condition) else Condition(cond)
        dtype = getattr(self.unet, "dtype", z.dtype)
        tokens = told.tokens.to(dtype).expand(z.shape[0], -1, -1) if len(told.tokens) == 1 else told.tokens.to(dtype)
        more: dict[str, Any] = {}
        if told.pooled is not None:
            parts = {"text_embeds": told.pooled} | ({} if self.time_ids is None else {"time_ids": self.time_ids})
            more["added_cond_kwargs"] = {name: part.to(z.device, dtype).expand(len(z), -1) for name, part in parts.items()}
        return self.unet(z.to(dtype), timestep, tokens, return_dict=False, **more)[0].to(z.dtype)
