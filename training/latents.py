"""What the UNet is trained on: latents of many faces, those of the generator's features and those of encoded pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceprivacy_core.builtin.autoencoder import FaceAutoencoder

from .features import BLOCK, FeatureBasis
from .generator import Generator
from .half import HalfTwin
from .pictures import FacePool, step_generator
from .settings import Settings

CHUNK = 20
PURPOSE = 1
SEED_OFFSET = 1_000_000
"""Seeds of the faces of which only the features are drawn begin this far behind the pictures'."""


@dataclass(frozen=True, eq=False)
class LatentPool:
    """Latents as the UNet sees them; the first `held_out` are never trained on.

    Attributes:
        latents: (M, C, h, w) float16, mean 0 a channel and mean variance 1 over all channels.
        mean, std: (C,) of the encoder's output, before normalising; one standard deviation for all
            channels, so that the fine ones stay small and take shape last.
        held_out: Number of latents held out.
    """

    latents: Tensor
    mean: Tensor
    std: Tensor
    held_out: int

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True, eq=False)
class Sources:
    """What latents are made of.

    Attributes:
        pool: Pictures, for those that are encoded.
        autoencoder: Encodes them.
        generator, basis: Draw the known features and turn them into latents.
    """

    pool: FacePool
    autoencoder: FaceAutoencoder
    generator: Generator | None = None
    basis: FeatureBasis | None = None

    @torch.no_grad()
    def draw_known(self, settings: Settings) -> Iterator[Tensor]:
        """Draw raw latents of the generator's features, in chunks."""
        first, count = settings.data.first_seed + SEED_OFFSET, settings.diffusion.known_faces
        for start in range(first, first + count, CHUNK):
            styles = self.generator.draw_styles(range(start, min(start + CHUNK, first + count)), settings.data.truncation)
            yield self.basis.project(self.generator.features(styles, BLOCK)).half()

    @torch.no_grad()
    def encode(self, images: Tensor, settings: Settings) -> Tensor:
        """Encode pictures (B, 3, S, S) in [-1, 1] to raw latents in 16 bits, in bfloat16 if the settings say so."""
        half = HalfTwin(self.autoencoder.enc, settings.run.precision == "bf16")
        return half.net(images.to(half.dtype)).half()

    @torch.no_grad()
    def encode_held_out(self, settings: Settings) -> Iterator[Tensor]:
        """Encode the pictures that are held out, as they are."""
        for part in self.pool.held_out(settings.autoencoder.side, settings.run.torch_device()).images.split(CHUNK):
            yield self.encode(part, settings)

    @torch.no_grad()
    def encode_views(self, settings: Settings) -> Iterator[Tensor]:
        """Encode every other face in `diffusion.views` views."""
        order = torch.arange(settings.data.held_out, len(self.pool.pictures)).repeat(settings.diffusion.views)
        device, side = settings.run.torch_device(), settings.autoencoder.side
        for number, index in enumerate(order.split(CHUNK)):
            random = step_generator(settings.run.seed, number, PURPOSE)
            yield self.encode(self.pool.view(index, random, side, device).images, settings)


def make_latents(settings: Settings, sources: Sources, known_scale: tuple[Tensor, Tensor] | None) -> LatentPool:
    """Make the latents that `diffusion.source` asks for.

    Args:
        known_scale: Mean and standard deviation that stay, because a UNet was trained on them; None measures.
    """
    source, held_out = settings.diffusion.source, settings.data.held_out
    parts: list[Tensor] = []
    if source in ("encoder", "both"):
        parts += [*sources.encode_held_out(settings), *sources.encode_views(settings)]
    if source in ("features", "both"):
        parts += sources.draw_known(settings)
    if not parts:
        raise ValueError(f'Expected diffusion.source "features", "encoder" or "both", got "{source}".')
    raw = torch.cat(parts)
    return normalise(raw, held_out) if known_scale is None else scale(raw, *known_scale, held_out)


def normalise(raw: Tensor, held_out: int) -> LatentPool:
    """Give raw latents (M, C, h, w) float16 mean 0 a channel and mean variance 1."""
    sample = raw[:: max(1, len(raw) // 4000)].float()
    mean = sample.mean((0, 2, 3))
    deviation = (sample - mean.view(1, -1, 1, 1)).square().mean().sqrt()
    return scale(raw, mean, deviation.expand(len(mean)).clone(), held_out)


def scale(raw: Tensor, mean: Tensor, std: Tensor, held_out: int) -> LatentPool:
    """Normalise raw latents with a mean and standard deviation that stay; in place, to save memory."""
    for part in raw.split(4000):
        part.copy_((part.float() - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1))
    return LatentPool(raw, mean, std, held_out)


def load_latents(path: Path, mark: str, device: torch.device) -> LatentPool | None:
    """Read latents; None when there are none or they were made from something else."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        header = file.metadata() or {}
        if header.get("mark") != mark:
            return None
        tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    return LatentPool(**tensors, held_out=int(header["held_out"]))


def save_latents(path: Path, mark: str, pool: LatentPool) -> None:
    """Write latents; `mark` says what they were made from."""
    names = ("latents", "mean", "std")
    tensors = {name: getattr(pool, name).cpu().contiguous() for name in names}
    save_file(tensors, path, {"mark": mark, "held_out": str(pool.held_out)})
