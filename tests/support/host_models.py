"""Models of the host's own classes at tiny size with random weights: for plumbing only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

CONTEXT = 768
TINY_UNET: Mapping[str, Any] = {
    "use_checkpoint": False, "image_size": 32, "use_spatial_transformer": True, "legacy": False,
    "num_classes": None, "adm_in_channels": None, "use_linear_in_transformer": False,
    "use_temporal_attention": False, "use_temporal_resblock": False, "in_channels": 4, "out_channels": 4,
    "model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": [1, 1], "context_dim": CONTEXT,
    "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1], "transformer_depth_middle": 1,
}  # fmt: skip


def tiny_unet() -> Any:
    """Make a MODEL of the host's SD1.5 class."""
    import comfy.supported_models

    return _patcher(comfy.supported_models.SD15(dict(TINY_UNET)))


def tiny_sdxl() -> Any:
    """Make a MODEL of the host's SDXL class, whose condition also has a pooled part."""
    import comfy.supported_models

    adm = {"num_classes": "sequential", "adm_in_channels": 2816}
    return _patcher(comfy.supported_models.SDXL({**TINY_UNET, **adm}))


FLOW_WIDTH, FLOW_POOLED = 96, 80


def tiny_sd3() -> Any:
    """Make a MODEL of the host's SD3 class, a flow with 16 latent channels."""
    import comfy.supported_models

    context = {"target": "torch.nn.Linear", "params": {"in_features": FLOW_WIDTH, "out_features": 128}}
    shape = {
        "in_channels": 16, "patch_size": 2, "depth": 2, "input_size": None, "pos_embed_scaling_factor": None,
        "pos_embed_max_size": 64, "num_patches": 64 * 64, "adm_in_channels": FLOW_POOLED, "qk_norm": None,
        "context_embedder_config": context,
    }  # fmt: skip
    return _patcher(comfy.supported_models.SD3(shape))


def tiny_flux() -> Any:
    """Make a MODEL of the host's Flux class, a flow with 16 latent channels, whose guidance is distilled."""
    import comfy.supported_models

    shape = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": FLOW_POOLED, "context_in_dim": FLOW_WIDTH,
        "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6],
        "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
    }  # fmt: skip
    return _patcher(comfy.supported_models.Flux(shape))


FLOWS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "SD3": (tiny_sd3, "diffusion_model.final_layer.linear.weight"),
    "Flux": (tiny_flux, "diffusion_model.final_layer.linear.weight"),
}
"""A MODEL of each class, and the weight that its output follows from."""


def told_flow(strength: float = 1.0) -> list[Any]:
    """Make a CONDITIONING for a tiny flow."""
    import torch

    generator = torch.Generator().manual_seed(2)
    tokens, pooled = (strength * torch.randn(shape, generator=generator) for shape in ((1, 7, FLOW_WIDTH), (1, FLOW_POOLED)))
    return [[tokens, {"pooled_output": pooled}]]


def flow_vae(seed: int = 0) -> Any:
    """Make a VAE of the host's TAESD class with the 16 latent channels of SD3 and Flux."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    network = TAESD(latent_channels=16)
    randomise(network, seed)
    return comfy.sd.VAE(sd=network.state_dict())


def _patcher(config: Any) -> Any:
    import comfy.model_management
    import comfy.model_patcher
    import torch

    if "model_channels" in config.unet_config:
        config.unet_config.update(num_heads=4, num_head_channels=-1)
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float32, None, device=device)
    model = config.get_model({}, "", device=torch.device("cpu"))
    randomise(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(
        model, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill all weights; the host's layers leave them uninitialised."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            fan_in = weight[0].numel()
            weight.copy_(torch.randn(weight.shape, generator=generator) * fan_in**-0.5)
        else:
            weight.fill_(1.0 if name.endswith(("weight", "vae_scale")) else 0.0)


def taesd() -> Any:
    """Make a VAE of the host's TAESD class."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    network = TAESD(latent_channels=4)
    randomise(network)
    return comfy.sd.VAE(sd=network.state_dict())


def autoencoder_kl() -> Any:
    """Make a VAE of the host's class for Stable Diffusion."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    shape = {
        "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    network = AutoencoderKL(embed_dim=4, ddconfig=dict(shape))
    randomise(network)
    return comfy.sd.VAE(sd=network.state_dict(), config={"params": {"embed_dim": 4, "ddconfig": dict(shape)}})


VAES: dict[str, Callable[[], Any]] = {"TAESD": taesd, "AutoencoderKL": autoencoder_kl}


def condition(**options: Any) -> list[Any]:
    """Make a CONDITIONING of random tokens."""
    import torch

    return [[torch.randn(1, 7, CONTEXT, generator=torch.Generator().manual_seed(2)), options]]


def v_prediction() -> Any:
    """Make a MODEL that predicts v, with the host's own node."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(tiny_unet(), "v_prediction", False)[0]


def with_lora(model: Any, strength: float) -> Any:
    """Patch one weight of a MODEL, as loading a LoRA does."""
    import torch

    key = "diffusion_model.out.2.weight"
    patched = model.clone()
    added = patched.add_patches({key: ("diff", (torch.ones_like(patched.model.state_dict()[key]),))}, strength)
    assert list(added) == [key]
    return patched


def tiny_sd2(context: int = 64) -> Any:
    """Make a MODEL of the host's SD2.x class."""
    import comfy.supported_models

    return _patcher(comfy.supported_models.SD20({**TINY_UNET, "context_dim": context, "use_linear_in_transformer": True}))


def tiny_sd1_told(context: int = 32) -> Any:
    """Make a MODEL of the host's SD1.5 class for the tiny CLIP."""
    import comfy.supported_models

    return _patcher(comfy.supported_models.SD15({**TINY_UNET, "context_dim": context}))


def tiny_sdxl_told(context: int = 32 + 48) -> Any:
    """Make a MODEL of the host's SDXL class for the tiny CLIPs; its pooled part is that of the second."""
    import comfy.supported_models

    adm = {"num_classes": "sequential", "adm_in_channels": 48 + 6 * 256, "context_dim": context}
    return _patcher(comfy.supported_models.SDXL({**TINY_UNET, **adm}))


CLIP_WIDTHS: Mapping[str, int] = {"l": 32, "h": 64, "g": 48}


def tiny_clip(family: str) -> Any:
    """Make a CLIP of the host's own classes: "sd1", "sd2", "sdxl", "sd3" or "flux" (both without T5), with tiny encoders."""
    import comfy.sd
    import comfy.supported_models_base
    from comfy import sd1_clip, sdxl_clip
    from comfy.text_encoders import flux, sd2_clip, sd3_clip

    classes = {
        "sd1": (sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel),
        "sd2": (sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel),
        "sdxl": (sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel),
        "sd3": (sd3_clip.SD3Tokenizer, sd3_clip.sd3_clip(t5=False)),
        "flux": (flux.FluxTokenizer, sd3_clip.sd3_clip(clip_g=False, t5=False)),
    }
    target = comfy.supported_models_base.ClipTarget(*classes[family])
    shapes = {
        f"clip_{name}_model_config": {
            "hidden_size": width, "num_attention_heads": 2, "intermediate_size": 2 * width, "num_hidden_layers": 3,
        }
        for name, width in CLIP_WIDTHS.items()
    }  # fmt: skip
    clip = comfy.sd.CLIP(target, model_options=shapes)
    randomise(clip.cond_stage_model)
    return clip


def tiny_clip_vision() -> Any:
    """Make a CLIP_VISION of the host's own class with a tiny transformer."""
    from comfy.clip_vision import ClipVisionModel

    model = ClipVisionModel(
        {
            "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 6, "patch_size": 14,
            "image_size": 56, "num_channels": 3, "projection_dim": 16, "hidden_act": "quick_gelu",
            "model_type": "clip_vision_model",
        }
    )  # fmt: skip
    randomise(model.model)
    return model


def with_faint_output(model: Any, key: str = "diffusion_model.out.2.weight") -> Any:
    """Patch a MODEL of random weights to predict little, so that its sampling steps can be inverted."""
    patched = model.clone()
    assert list(patched.add_patches({key: ("diff", (-0.9995 * model.model.state_dict()[key],))}, 1.0)) == [key]
    return patched


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """MODEL, CLIP and VAE of one family, and pictures of two faces."""

    model: Any
    clip: Any
    vae: Any
    image: Any


def tiny_checkpoint(family: str) -> Checkpoint:
    """Make a checkpoint whose MODEL and CLIP belong together: "sd1", "sd2" or "sdxl"."""
    import torch

    model = {"sd1": tiny_sd1_told, "sd2": tiny_sd2, "sdxl": tiny_sdxl_told}[family]()
    ramp = torch.linspace(0.0, 1.0, 64)
    image = torch.stack([ramp[:, None] * ramp, ramp.flip(0)[:, None] * ramp])[..., None].repeat(1, 1, 1, 3)
    return Checkpoint(model, tiny_clip(family), taesd(), (0.1 + 0.8 * image).clamp(0, 1))
