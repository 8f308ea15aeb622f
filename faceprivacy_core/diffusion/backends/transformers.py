"""Transformers of flow models, called as a UNet is."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

GUIDANCE = 1.0
"""What a model with distilled guidance is told: none, so that the way up is the way down reversed."""


class FlowNetwork(nn.Module):
    """A transformer of diffusers with the call signature of its UNets; it predicts noise - x0.

    Args:
        network: Of diffusers.
        channels: Of the latents it takes.
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.config = SimpleNamespace(in_channels=channels, addition_embed_type=None, sample_size=None)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def enable_gradient_checkpointing(self) -> None:
        """Let the network compute its blocks again for a gradient."""
        self.network.enable_gradient_checkpointing()

    def disable_gradient_checkpointing(self) -> None:
        """Let the network keep what a gradient needs."""
        self.network.disable_gradient_checkpointing()


class Sd3Network(FlowNetwork):
    """An SD3Transformer2DModel."""

    def __init__(self, network: Any) -> None:
        super().__init__(network, network.config.in_channels)

    def forward(
        self, sample: Tensor, timestep: Tensor, tokens: Tensor, return_dict: bool, added_cond_kwargs: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        return self.network(
            hidden_states=sample, timestep=timestep, encoder_hidden_states=tokens,
            pooled_projections=added_cond_kwargs["text_embeds"], return_dict=False,
        )  # fmt: skip


class FluxNetwork(FlowNetwork):
    """A FluxTransformer2DModel, which takes latents as a row of patches of 2 x 2."""

    def __init__(self, network: Any) -> None:
        super().__init__(network, network.config.in_channels // 4)

    def forward(
        self, sample: Tensor, timestep: Tensor, tokens: Tensor, return_dict: bool, added_cond_kwargs: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        rows, columns = sample.shape[-2] // 2, sample.shape[-1] // 2
        guidance = timestep.new_full((len(sample),), GUIDANCE) if self.network.config.guidance_embeds else None
        places = torch.stack(torch.meshgrid(torch.arange(1), torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
        velocity = self.network(
            hidden_states=nn.functional.pixel_unshuffle(sample, 2).flatten(2).transpose(1, 2),
            timestep=timestep / 1000.0, guidance=guidance, encoder_hidden_states=tokens,
            pooled_projections=added_cond_kwargs["text_embeds"], img_ids=places.view(-1, 3).to(sample),
            txt_ids=sample.new_zeros(tokens.shape[1], 3), return_dict=False,
        )[0]  # fmt: skip
        patches = velocity.transpose(1, 2).unflatten(2, (rows, columns))
        return (nn.functional.pixel_shuffle(patches, 2),)
