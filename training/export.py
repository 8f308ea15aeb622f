"""Writes the file that is shipped: header, networks, 8-bit matrices; prints what 8 bits cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder
from faceprivacy_core.builtin.eight_bits import dequantise
from faceprivacy_core.builtin.model import FORMAT, FORMAT_VERSION
from faceprivacy_core.builtin.tokens import TokenConfig

from .autoencoder import load_trained
from .diffusion import PREDICTION
from .donors import make_donors
from .latents import normalise
from .loop import load_checkpoint
from .settings import ExportSettings, Settings

EIGHT_BIT = (".weight", ".latents")
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Parts of a channel's largest value tried as the largest that 8 bits can say."""


def export(settings: Settings, held_out: Tensor) -> Path:
    """Write FOLDER/face_model.safetensors from the newest checkpoints.

    What was not trained is copied from `start_from` byte for byte. Without a UNet the file
    holds the autoencoder alone; the pack does not load it, but training can start from it.

    Args:
        settings: All settings.
        held_out: (B, 3, S, S) pictures in [-1, 1] on which the loss of 8 bits is measured.

    Returns:
        Path of the file.
    """
    base, header = _read_base(settings)
    ae_config, autoencoder, ae_step = load_trained(settings)
    path, trained = settings.folder / "diffusion.pt", "autoencoder" if settings.autoencoder.trainable == "all" else "decoder"
    steps = {"autoencoder": 0, "diffusion": 0} | header.get("trained_steps", {})
    steps[trained] = steps.get(trained, 0) + ae_step
    parts: dict[str, Tensor] = {f"autoencoder.{name}": value for name, value in autoencoder.state_dict().items()}
    if path.is_file():
        content = load_checkpoint(path)
        steps["diffusion"] = content["step"]
        header |= _diffusion_header(settings, content["state"])
        parts |= _diffusion_parts(content["state"])
    elif base:
        parts |= {f"autoencoder.{name}": base[f"autoencoder.{name}"] for name in ("latent_mean", "latent_std")}
    else:
        print("export: no UNet yet; the file holds the autoencoder alone, to go on from elsewhere.")
        parts |= _measured_scale(autoencoder, held_out)
    header |= {"name": settings.export.name, "resolution": settings.autoencoder.side, "trained_steps": steps}
    header["autoencoder"] = dataclasses.asdict(ae_config)
    normalise_into(autoencoder, parts)
    if "preview" not in header or settings.autoencoder.trainable == "all":
        header["preview"] = fit_preview(autoencoder, held_out)
    if settings.export.donors:
        header["donors"], bank = make_donors(settings, autoencoder)
        parts |= {f"donors.{name}": value for name, value in bank.items()}
    tensors = _store(parts, base, settings.export)
    target = settings.folder / "face_model.safetensors"
    metadata = {"format": FORMAT, "version": FORMAT_VERSION, "config": json.dumps(header, sort_keys=True)}
    save_file(tensors, target, metadata)
    print(f"export: {target}, {target.stat().st_size / 1e6:.1f} MB, steps {steps}")
    for name, error in eight_bit_errors(parts, tensors).items():
        print(f"export: 8 bits change the weights of {name} by {100 * error:.2f} % (root mean square, relative)")
    print(f"export: and a decoded picture by {decoded_error(ae_config, parts, tensors, held_out):.2f} levels of 255")
    return target


def normalise_into(autoencoder: FaceAutoencoder, parts: dict[str, Tensor]) -> None:
    """Give the autoencoder the normalisation that is written."""
    autoencoder.latent_mean.copy_(parts["autoencoder.latent_mean"])
    autoencoder.latent_std.copy_(parts["autoencoder.latent_std"])


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Turn a matrix or kernel (O, ...) into int8 and one scale for each output channel.

    The scale is the one of a few that loses least in the mean square.
    """
    flat = weight.float().flatten(1)
    largest = flat.abs().amax(1).clamp(min=1e-12)
    best, best_error = largest / 127, torch.full_like(largest, float("inf"))
    for clip in CLIPS:
        scale = clip * largest / 127
        error = ((flat / scale[:, None]).round().clamp(-127, 127) * scale[:, None] - flat).pow(2).sum(1)
        best = torch.where(error < best_error, scale, best)
        best_error = torch.minimum(error, best_error)
    whole = (flat / best[:, None]).round().clamp(-127, 127).to(torch.int8)
    return whole.view(weight.shape), best


def fit_preview(autoencoder: FaceAutoencoder, images: Tensor) -> dict[str, Any]:
    """Fit RGB = bias + latent @ factors to pictures, for previews without decoding."""
    with torch.no_grad():
        latents = torch.cat([autoencoder.encode(part) for part in images.split(16)])
    small = F.interpolate(images, latents.shape[-2:], mode="area")
    columns = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    columns = torch.cat([columns, torch.ones(len(columns), 1)], dim=1)
    solution = torch.linalg.lstsq(columns, small.permute(0, 2, 3, 1).reshape(-1, 3)).solution
    rounded = [[round(float(value), 4) for value in row] for row in solution]
    return {"factors": rounded[:-1], "bias": rounded[-1]}


def eight_bit_errors(parts: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, float]:
    """Return the relative root mean square change of all weights of each network."""
    stored = dequantise(tensors)
    errors: dict[str, tuple[float, float]] = {}
    for name, value in parts.items():
        network = name.split(".")[0]
        change, size = errors.get(network, (0.0, 0.0))
        change += float((stored[name] - value.float()).pow(2).sum())
        errors[network] = change, size + float(value.float().pow(2).sum())
    return {network: (change / size) ** 0.5 for network, (change, size) in errors.items() if size > 0}


@torch.no_grad()
def decoded_error(config: AutoencoderConfig, parts: dict[str, Tensor], tensors: dict[str, Tensor], images: Tensor) -> float:
    """Return the root mean square change of round trips by the stored weights, in levels of 255."""
    results = []
    for weights in (parts, dequantise(tensors)):
        model = FaceAutoencoder(config)
        model.load_state_dict({k.removeprefix("autoencoder."): v for k, v in weights.items() if k.startswith("autoencoder.")})
        results.append(torch.cat([model.decode(model.encode(part)).clamp(-1, 1) for part in images.split(16)]))
    return float((results[1] - results[0]).pow(2).mean().sqrt()) * 127.5


def _measured_scale(autoencoder: FaceAutoencoder, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        measured = normalise(torch.cat([autoencoder.enc(part) for part in images.split(16)]), 0)
    return {"autoencoder.latent_mean": measured.mean, "autoencoder.latent_std": measured.std}


def _read_base(settings: Settings) -> tuple[dict[str, Tensor], dict[str, Any]]:
    source = settings.diffusion.start_from or settings.autoencoder.start_from
    if not source:
        return {}, {"prediction": PREDICTION, "schedule": {"beta_start": 0.00085, "beta_end": 0.012, "num_steps": 1000}}
    with safe_open(source, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        return tensors, json.loads(file.metadata()["config"])


def _diffusion_header(settings: Settings, state: dict[str, Any]) -> dict[str, Any]:
    options, weights = settings.diffusion, state["model"]
    channels, latent_channels = weights["tokens.look.0.weight"].shape[:2]
    tokens = TokenConfig(latent_channels, channels, options.token_grids, options.token_width)
    return {"unet": state["unet_config"], "tokens": dataclasses.asdict(tokens), "prediction": PREDICTION}


def _diffusion_parts(state: dict[str, Any]) -> dict[str, Tensor]:
    weights = state["model"] | state["average"]
    scale = {"autoencoder.latent_mean": state["scale"]["mean"], "autoencoder.latent_std": state["scale"]["std"]}
    return weights | scale


def _store(parts: dict[str, Tensor], base: dict[str, Tensor], options: ExportSettings) -> dict[str, Tensor]:
    """Choose how each tensor is kept: unchanged as in the base, int8 with scales, half, or float."""
    replaced = {name.split(".")[0] for name in parts}
    known, tensors = dequantise(base), {}
    kept = {name for name in known if name.split(".")[0] not in replaced}
    for name in sorted({*parts, *kept}):
        if name not in parts or (name in known and torch.equal(known[name], parts[name].float())):
            tensors[name] = base[name]
            if name + ".scale" in base:
                tensors[name + ".scale"] = base[name + ".scale"]
        elif options.eight_bit and name.endswith(EIGHT_BIT) and _is_large(name, parts[name], options):
            tensors[name], tensors[name + ".scale"] = quantise(parts[name])
        else:
            tensors[name] = parts[name].half() if parts[name].ndim >= 2 else parts[name].float()
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _is_large(name: str, weight: Tensor, options: ExportSettings) -> bool:
    return weight.ndim >= 2 and weight.numel() >= options.eight_bit_from and not name.startswith(options.sixteen_bit)
