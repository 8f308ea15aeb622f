"""Checkpoints of diffusers' real classes at tiny size with random weights, as folders: for plumbing and laws, not for looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from faceprivacy_core.diffusion.backends.families import END, FLUX, SD1, SD2, SD3, SDXL, START

FAMILIES = {"sd1": SD1, "sd2": SD2, "sdxl": SDXL, "sd3": SD3, "flux": FLUX}
PIPELINES = {"sdxl": "StableDiffusionXLPipeline", "sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline"}
FLOWS = ("sd3", "flux")
WIDTHS = {"l": 16, "h": 24, "g": 24, "t5": 48}
SIDE = 64
_LEVELS = (8, 8, 8, 8)
UNET: Mapping[str, Any] = {
    "sample_size": SIDE // 8, "block_out_channels": (16, 16), "layers_per_block": 1, "norm_num_groups": 4,
    "attention_head_dim": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
VAE: Mapping[str, Any] = {
    "block_out_channels": _LEVELS, "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4, "sample_size": SIDE,
    "down_block_types": ("DownEncoderBlock2D",) * len(_LEVELS), "up_block_types": ("UpDecoderBlock2D",) * len(_LEVELS),
}  # fmt: skip


def tiny_unet(family: str) -> Any:
    """Make the UNet of a family: "sd1", "sd2" or "sdxl"."""
    from diffusers import UNet2DConditionModel

    context = sum(WIDTHS[name] for name in FAMILIES[family].text)
    more = {}
    if family == "sdxl":
        more = {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": WIDTHS["g"] + 6 * 8,
        }  # fmt: skip
    unet = UNet2DConditionModel(**UNET, cross_attention_dim=context, **more)
    with torch.no_grad():  # a network of random weights that predicts little, so that its steps can be taken back
        unet.conv_out.weight.mul_(0.05)
    return unet


def tiny_transformer(family: str) -> Any:
    """Make the transformer of a flow model: "sd3" or "flux"."""
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    if family == "sd3":
        network = SD3Transformer2DModel(
            sample_size=SIDE // 8, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=WIDTHS["t5"], caption_projection_dim=16, pooled_projection_dim=WIDTHS["l"] + WIDTHS["g"],
            pos_embed_max_size=16,
        )  # fmt: skip
    else:
        network = FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=WIDTHS["t5"], pooled_projection_dim=WIDTHS["l"], axes_dims_rope=(2, 2, 4),
            guidance_embeds=True,
        )  # fmt: skip
    with torch.no_grad():
        network.proj_out.weight.mul_(0.05)
    return network


def tiny_text_encoder(name: str, shape: Any) -> Any:
    """Make a text encoder with CLIP's whole vocabulary, or a T5 with the beginning of its own."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    if name == "t5":
        return T5EncoderModel(
            T5Config(vocab_size=600, d_model=WIDTHS[name], d_kv=8, d_ff=32, num_layers=1, num_heads=2, is_gated_act=True)
        )
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=WIDTHS[name], intermediate_size=2 * WIDTHS[name], num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, hidden_act=shape.config["hidden_act"], projection_dim=WIDTHS[name],
        eos_token_id=END, bos_token_id=START,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if shape.pooled and shape.projected else CLIPTextModel)(config)


def write_checkpoint(folder: Path, family: str, prediction: str = "epsilon") -> Path:
    """Write a checkpoint as diffusers saves it; return its folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler

    torch.manual_seed(0)
    of, is_flow = FAMILIES[family], family in FLOWS
    network = tiny_transformer(family) if is_flow else tiny_unet(family)
    network.save_pretrained(folder / ("transformer" if is_flow else "unet"))
    scale = {name: of.vae[name] for name in ("scaling_factor", "shift_factor") if name in of.vae}
    AutoencoderKL(**VAE, **scale).save_pretrained(folder / "vae")
    for name, shape in of.text.items():
        tiny_text_encoder(name, shape).save_pretrained(folder / ("text_encoder_2" if name in ("g", "t5") else "text_encoder"))
    if is_flow:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=family == "flux")
    else:
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
        )  # fmt: skip
    scheduler.save_pretrained(folder / "scheduler")
    pipeline = PIPELINES.get(family, "StableDiffusionPipeline")
    (folder / "model_index.json").write_text(f'{{"_class_name": "{pipeline}"}}', encoding="utf-8")
    return folder
