"""Learned vectors in place of words: tokens of a picture through the checkpoint's own text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor, nn

from ..faceprivacy_core.diffusion.model import Condition
from ..faceprivacy_core.errors import InputError, UnsupportedModelError
from ._host_gradients import keep_inputs, ordinary_patcher
from ._host_levels import levels_of

FAMILIES = ({"l"}, {"h"}, {"l", "g"})
"""Text encoders in which words are learned, by the host's names: SD1.x, SD2.x, and SDXL or SD3."""
UNTOLD = "t5xxl"
"""SD3's third text encoder, without which its authors let it be told."""
FIRST_WORD = "face"
"""The word that learned vectors begin as."""


class TextTokens:
    """The space of learned vectors of a CLIP: n of them stand between start and end of an empty prompt.

    Args:
        model: The MODEL that is told; only its shape is read.
        clip: Its CLIP.
        trainable: Work on a copy that gradients pass through. Make it outside inference mode.

    Raises:
        InputError: The CLIP is not of the MODEL's family.
        UnsupportedModelError: Text encoders of another kind.
    """

    learning_rate = 5e-3
    """As textual inversion takes it: the words of a CLIP are small, about 0.01 an element."""

    def __init__(self, model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP, *, trainable: bool) -> None:
        self._clip = clip
        prompt = clip.tokenize("")
        self._prompt = {name: [token for token, _ in rows[0]] for name, rows in prompt.items() if name != UNTOLD}
        is_flow = levels_of(model).is_flow
        if set(self._prompt) not in FAMILIES or (UNTOLD in prompt and set(self._prompt) != {"l", "g"}):
            raise UnsupportedModelError(
                "Expected the CLIP of SD1.x, SD2.x, SDXL or SD3 (text encoders l, h, or l and g), got text encoders "
                f"{', '.join(sorted(prompt))}. Connect the CLIP of a checkpoint of those families."
            )
        width = _told_width(model)
        widths = {name: self._embedding(clip.cond_stage_model, name).shape[1] for name in self._prompt}
        self._width, self._pools_both = width, is_flow
        fits = sum(widths.values()) <= width if is_flow else sum(widths.values()) == width
        if not fits or is_flow != (UNTOLD in prompt) or ("g" in widths) != (is_flow or model.model.adm_channels > 0):
            raise InputError(
                f"Expected the CLIP that belongs to the MODEL, whose conditions are {width} wide, got text encoders of "
                f"{' and '.join(f'{name}: {value}' for name, value in sorted(widths.items()))}. Connect the CLIP of the same "
                "checkpoint."
            )
        self._patcher = ordinary_patcher(clip.patcher) if trainable else clip.patcher
        if trainable:
            for name in self._prompt:
                layers = getattr(self._patcher.model, f"clip_{name}").transformer.text_model.encoder.layers
                keep_inputs(norm for layer in layers for norm in (layer.layer_norm1, layer.layer_norm2))
        self.empty = self._empty()

    @property
    def models(self) -> list[comfy.model_patcher.ModelPatcher]:
        """The models that must be loaded while conditions are made."""
        return [self._patcher]

    def start(self, count: int) -> dict[str, Tensor]:
        """Return the vectors to begin with, (n, D) float32 by encoder.

        Raises:
            InputError: The prompt has no room for so many.
        """
        room = min(len(row) for row in self._prompt.values()) - 2
        if not 1 <= count <= room:
            raise InputError(f"Expected 1 to {room} tokens per stage, got {count}. The text encoder reads no more.")
        vectors, words = {}, self._clip.tokenize(FIRST_WORD)
        for name in self._prompt:
            weight = self._embedding(self._clip.cond_stage_model, name)
            vectors[name] = weight[words[name][0][1][0]].detach().float().cpu().clone().expand(count, -1).clone()
        return vectors

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Encode vectors (B, n, D) by encoder as the host encodes a prompt that has them as words."""
        network = self._patcher.model
        comfy.model_management.load_models_gpu(self.models)
        network.reset_clip_options()
        if self._clip.layer_idx is not None:
            network.set_clip_options({"layer": self._clip.layer_idx})
        network.set_clip_options({"execution_device": self._patcher.load_device})
        parts = {name: self._encode(network, name, vectors) for name, vectors in tokens.items()}
        if set(parts) == {"l", "g"}:
            both = torch.cat([parts["l"][0], parts["g"][0]], dim=-1)
            pooled = torch.cat([parts["l"][1], parts["g"][1]], dim=-1) if self._pools_both else parts["g"][1]
            return Condition(nn.functional.pad(both, (0, self._width - both.shape[-1])), pooled)
        ((cross, _),) = parts.values()
        return Condition(cross)

    def _encode(self, network: nn.Module, name: str, vectors: Tensor) -> tuple[Tensor, Tensor]:
        start, *rest = self._prompt[name]
        rows: list[list[Any]] = [[start, *item, *rest][: 1 + len(rest)] for item in vectors]
        return getattr(network, f"clip_{name}").encode(rows)[:2]

    def _empty(self) -> Condition:
        if self._pools_both:
            with torch.inference_mode(False), torch.no_grad():
                none = {name: torch.empty(1, 0, len(self._embedding(self._patcher.model, name)[0])) for name in self._prompt}
                told = self.condition(none)
                return Condition(told.tokens.float().cpu(), told.pooled.float().cpu())
        cross, pooled = self._clip.encode_from_tokens(self._clip.tokenize(""), return_pooled=True)
        with torch.inference_mode(False):
            cross, pooled = cross.detach().clone(), None if pooled is None else pooled.detach().clone()
        return Condition(cross, pooled if "g" in self._prompt else None)

    @staticmethod
    def _embedding(network: nn.Module, name: str) -> Tensor:
        return getattr(network, f"clip_{name}").transformer.get_input_embeddings().weight


def _told_width(model: comfy.model_patcher.ModelPatcher) -> int:
    """Return how wide the conditions of a MODEL are."""
    config = model.model.model_config.unet_config
    if "context_embedder_config" in config:
        return config["context_embedder_config"]["params"]["in_features"]
    return config["context_in_dim"] if "context_in_dim" in config else config["context_dim"]
