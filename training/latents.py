"""What the UNet is trained on: latents and pooled features of many views of every face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceprivacy_core.builtin.autoencoder import LATENT_BOUND, FaceAutoencoder, pooled_tokens

from .pictures import FacePool, step_generator
from .settings import Settings

CHUNK = 64
PURPOSE = 1


@dataclass(frozen=True, eq=False)
class LatentPool:
    """Views of faces as the UNet sees them; the first `held_out` are never trained on.

    Attributes:
        latents: (M, C, h, w) normalised to mean 0 and standard deviation 1 a channel.
        pooled: (M, L, F) features averaged over the token grids.
        mean, std: (C,) of the encoder's bounded output, before normalising.
        feature_mean, feature_std: (F,) of `pooled`.
        held_out: Number of views held out.
    """

    latents: Tensor
    pooled: Tensor
    mean: Tensor
    std: Tensor
    feature_mean: Tensor
    feature_std: Tensor
    held_out: int

    def __len__(self) -> int:
        return len(self.latents)


@torch.no_grad()
def encode_pool(model: FaceAutoencoder, pool: FacePool, settings: Settings, keep_scale: bool) -> LatentPool:
    """Encode every face once as it is if held out, else in several views.

    Args:
        keep_scale: Normalise with the model's own mean and standard deviation instead of measuring.
    """
    device, options = settings.run.torch_device(), settings.diffusion
    side = settings.autoencoder.resolution
    held_out = pool.held_out(side, device).images
    parts = [_encode(model, part, options.token_grids) for part in held_out.split(CHUNK)]
    order = torch.arange(settings.data.held_out, len(pool.pictures)).repeat(options.views)
    for number, index in enumerate(order.split(CHUNK)):
        generator = step_generator(settings.run.seed, number, PURPOSE)
        parts.append(_encode(model, pool.view(index, generator, side, device).images, options.token_grids))
    raw, pooled = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    if keep_scale:
        mean, std = model.latent_mean.clone(), model.latent_std.clone()
    else:
        mean, std = raw.mean((0, 2, 3)), raw.std((0, 2, 3))
    latents = (raw - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    return LatentPool(latents, pooled, mean, std, pooled.mean((0, 1)), pooled.std((0, 1)), len(held_out))


def load_latents(path: Path, mark: str, device: torch.device) -> LatentPool | None:
    """Read encoded views; None when there are none or they were made from something else."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        header = file.metadata() or {}
        if header.get("mark") != mark:
            return None
        tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    return LatentPool(**tensors, held_out=int(header["held_out"]))


def save_latents(path: Path, mark: str, pool: LatentPool) -> None:
    """Write encoded views; `mark` says what they were made from."""
    names = ("latents", "pooled", "mean", "std", "feature_mean", "feature_std")
    tensors = {name: getattr(pool, name).cpu().contiguous() for name in names}
    save_file(tensors, path, {"mark": mark, "held_out": str(pool.held_out)})


def _encode(model: FaceAutoencoder, images: Tensor, grids: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    features = model.features(images)
    raw = LATENT_BOUND * torch.tanh(model.enc[-3:](features) / LATENT_BOUND)
    return raw, pooled_tokens(features, grids)
