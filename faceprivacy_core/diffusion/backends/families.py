"""Families of checkpoints: shapes of their networks, as published, so that a single file needs no configuration beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

START, END, FACE = 49406, 49407, 1710
"""Numbers that CLIP's tokenizer gives the beginning, the end and the word "face"."""
T5_END, T5_FACE = 1, 522
"""The same of T5, whose prompts have no beginning."""
T5_LENGTH = 256


@dataclass(frozen=True)
class TextShape:
    """One text encoder of a family.

    Attributes:
        config: Of transformers' CLIPTextConfig.
        pad: Number that fills a prompt up.
        last: Whether the last layer's states are told, normalised; else those of the layer before.
        pooled: Whether it gives the second part of a condition.
        projected: Whether that part goes through the network's projection.
        start, end, face: Numbers of the beginning, the end and the word "face".
    """

    config: Mapping[str, Any]
    pad: int
    last: bool = True
    pooled: bool = False
    projected: bool = True
    start: tuple[int, ...] = (START,)
    end: int = END
    face: int = FACE


@dataclass(frozen=True)
class Family:
    """Networks of a family.

    Attributes:
        name: For people.
        unet, vae: Configurations of diffusers' UNet2DConditionModel and AutoencoderKL.
        text: Text encoders by their short names, as tokens are named in saved inversions.
        prediction: What the network was trained to predict, where a file does not say.
        resolution: Side of the pictures it was trained on, pixels.
    """

    name: str
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, TextShape]
    prediction: str
    resolution: int


_CROSS, _DOWN, _UP = "CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D"
_CROSS_UP = "CrossAttnUpBlock2D"
_SD_UNET = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
    "down_block_types": (_CROSS, _CROSS, _CROSS, _DOWN), "up_block_types": (_UP, _CROSS_UP, _CROSS_UP, _CROSS_UP),
}  # fmt: skip
_VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "scaling_factor": 0.18215,
}  # fmt: skip
_CLIP = {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": END, "bos_token_id": START}
_CLIP_L = _CLIP | {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip
_OPEN_CLIP_H = _CLIP | {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
    "hidden_act": "gelu", "projection_dim": 512,
}  # fmt: skip
_OPEN_CLIP_G = _CLIP | {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "hidden_act": "gelu", "projection_dim": 1280,
}  # fmt: skip

SD1 = Family(
    "SD 1.x", _SD_UNET | {"cross_attention_dim": 768, "attention_head_dim": 8}, _VAE, {"l": TextShape(_CLIP_L, END)},
    "epsilon", 512,
)  # fmt: skip
SD2 = Family(
    "SD 2.x",
    _SD_UNET
    | {
        "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True,
        "upcast_attention": True, "sample_size": 96,
    },
    _VAE, {"h": TextShape(_OPEN_CLIP_H, 0)}, "v_prediction", 768,
)  # fmt: skip
SDXL = Family(
    "SDXL",
    {
        "sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2,
        "down_block_types": (_DOWN, _CROSS, _CROSS), "up_block_types": (_CROSS_UP, _CROSS_UP, _UP),
        "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    _VAE | {"scaling_factor": 0.13025, "sample_size": 1024},
    {"l": TextShape(_CLIP_L, END, last=False), "g": TextShape(_OPEN_CLIP_G, 0, last=False, pooled=True)}, "epsilon", 1024,
)  # fmt: skip

_FLOW_VAE = _VAE | {
    "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": False,
    "use_post_quant_conv": False, "sample_size": 1024,
}  # fmt: skip
SD3 = Family(
    "SD3", {}, _FLOW_VAE,
    {
        "l": TextShape(_CLIP_L, END, last=False, pooled=True),
        "g": TextShape(_OPEN_CLIP_G, 0, last=False, pooled=True),
    },
    "flow_prediction", 1024,
)  # fmt: skip
FLUX = Family(
    "Flux", {}, _FLOW_VAE | {"scaling_factor": 0.3611, "shift_factor": 0.1159},
    {
        "l": TextShape(_CLIP_L, END, pooled=True, projected=False),
        "t5": TextShape({}, 0, start=(), end=T5_END, face=T5_FACE),
    },
    "flow_prediction", 1024,
)  # fmt: skip

BY_TYPE: Mapping[str, Family] = {"v1": SD1, "v2": SD2, "xl_base": SDXL}
"""By the names that diffusers gives the families of single files."""

FOLDERS_ONLY = ("sd3", "sd35", "flux-dev", "flux-schnell")
"""Families that are read from a folder, whose single files mostly lack text encoders."""
FLOW = ("auraflow", "lumina", "sana", "hidream", "chroma", "qwen", "z-image", "krea", "flux")
"""How the names of further flow models begin that diffusers knows and no method here can use."""
