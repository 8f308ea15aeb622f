"""A checkpoint as the host saves it: the core reads the same networks out of it, and computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.host_models import CLIP_WIDTHS, autoencoder_kl, tiny_clip, tiny_sd1_told, tiny_sd2, tiny_sdxl_told
from tests.support.host_scenes import Core

MODELS = {"sd1": tiny_sd1_told, "sd2": tiny_sd2, "sdxl": tiny_sdxl_told}
TOLERANCE = {"rtol": 0.0, "atol": 2e-4}


def tiny_shapes(core: Core, family: str) -> Any:
    """Return the family with the shapes of the tiny networks."""
    families = core("faceprivacy_core.diffusion.backends.families")
    full = {"sd1": families.SD1, "sd2": families.SD2, "sdxl": families.SDXL}[family]
    text = {}
    for name, shape in full.text.items():
        width = CLIP_WIDTHS[name]
        small = {
            "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 3, "num_attention_heads": 2,
            "projection_dim": width,
        }  # fmt: skip
        if name == "h":
            small["num_hidden_layers"] = 2  # the last one is not in use
        text[name] = replace(shape, config=dict(shape.config) | small)
    unet = {
        "sample_size": 8, "block_out_channels": (32, 32), "layers_per_block": 1, "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": sum(CLIP_WIDTHS[name] for name in text), "use_linear_projection": family == "sd2",
    }  # fmt: skip
    if family == "sdxl":
        unet |= {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": CLIP_WIDTHS["g"] + 6 * 256,
        }  # fmt: skip
    vae = dict(full.vae) | {"block_out_channels": (32,) * 4, "layers_per_block": 1}
    return replace(full, unet=unet, vae=vae, text=text)


@pytest.mark.parametrize("family", list(MODELS))
def test_a_single_file_of_the_host_is_the_same_model_in_the_core(
    pack_nodes: dict[str, Any], core: Core, family: str, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    with torch.inference_mode():
        model, clip, vae = MODELS[family](), tiny_clip(family), autoencoder_kl()
        cross, pooled = clip.encode_from_tokens(clip.tokenize(""), return_pooled=True)
        network = model.model
        saved = network.state_dict_for_saving(
            dict(network.diffusion_model.state_dict()), dict(clip.get_sd()), dict(vae.get_sd())
        )  # fmt: skip
        saved = {name: weight.contiguous().clone() for name, weight in saved.items()}
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        sigma = torch.tensor([1.5])
        more = {}
        if family == "sdxl":
            more["y"] = network.encode_adm(pooled_output=pooled, width=64, height=64, device=torch.device("cpu"))
        theirs = network.apply_model(x, sigma, c_crossattn=cross, transformer_options={}, **more).clone()
        crop = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        exact = core("nodes._host").ExactVae(model, vae)
        latent = exact.encode(crop).clone()
        decoded = exact.decode(latent).clone()
    path = tmp_path / "tiny.safetensors"
    save_file(saved, path)

    load = core("faceprivacy_core.diffusion.backends.loading").load_checkpoint
    prediction = "epsilon" if family == "sd2" else None  # the host's tiny one predicts noise
    ours = load(path, family=tiny_shapes(core, family), prediction=prediction)
    with torch.no_grad():
        torch.testing.assert_close(ours.empty.tokens, cross.clone(), **TOLERANCE)
        if family == "sdxl":
            torch.testing.assert_close(ours.empty.pooled, pooled.clone(), **TOLERANCE)
        torch.testing.assert_close(ours.denoise(x.clone(), 1.5, ours.empty), theirs, **TOLERANCE)
        torch.testing.assert_close(ours.encode(crop.clone()), latent, **TOLERANCE)
        torch.testing.assert_close(ours.decode(latent).clamp(0.0, 1.0), decoded, **TOLERANCE)

        word = clip.tokenize("face")
        told, _ = clip.encode_from_tokens(word, return_pooled=True)
        torch.testing.assert_close(ours.face.tokens, told.clone(), **TOLERANCE)

    alone = {name: weight for name, weight in saved.items() if not name.startswith("first_stage_model.")}
    save_file(alone, path)
    with pytest.raises(core("faceprivacy_core.errors").ModelFileError, match="--vae FILE"):
        load(path, family=tiny_shapes(core, family))
    save_file({name: weight for name, weight in saved.items() if name not in alone}, tmp_path / "vae.safetensors")
    given = load(path, family=tiny_shapes(core, family), vae=tmp_path / "vae.safetensors")
    assert torch.equal(given.encode(crop.clone()), ours.encode(crop.clone()))
    with pytest.raises(core("faceprivacy_core.errors").ModelFileError, match="without weights of a UNet"):
        load(tmp_path / "vae.safetensors")
    save_file({name: weight for name, weight in saved.items() if "text" not in name and "cond" not in name}, path)
    with pytest.raises(core("faceprivacy_core.errors").ModelFileError, match="text encoder"):
        load(path, family=tiny_shapes(core, family))
