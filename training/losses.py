"""Losses of the autoencoder: perceptual, identity, adversarial."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from faceprivacy_core import weights
from faceprivacy_core.faces.specs import find_spec

_STRIDES = (4, 1, 1, 1, 1)
_PADDING = (2, 2, 1, 1, 1)
_POOLED_BEFORE = (False, True, True, False, False)
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class PerceptualLoss(nn.Module):
    """LPIPS v0.1 with AlexNet, averaged over the picture; differentiable and batched.

    `faceprivacy_core.metrics.perceptual` measures the same and is the reference in the tests.

    Args:
        state: Convolutions `conv0`..`conv4` and heads `head0`..`head4`.

    Source: Zhang, Isola, Efros, Shechtman and Wang (2018), eq. 1.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            self.register_buffer(name.replace(".", "_"), tensor.float())
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """Return five maps, unit length in every position, of (B, 3, S, S) in [-1, 1]."""
        x, maps = (images - self.shift) / self.scale, []
        for i in range(5):
            x = F.max_pool2d(x, 3, 2) if _POOLED_BEFORE[i] else x
            kernel, bias = getattr(self, f"conv{i}_weight"), getattr(self, f"conv{i}_bias")
            x = F.relu(F.conv2d(x, kernel, bias, _STRIDES[i], _PADDING[i]))
            seen = x.float()
            maps.append(seen / (seen.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Return the distance of every pair, (B,)."""
        with torch.no_grad():
            wanted = self.features(target)
        total = images.new_zeros(len(images))
        for i, (have, want) in enumerate(zip(self.features(images), wanted, strict=True)):
            total = total + F.conv2d((have - want).pow(2), getattr(self, f"head{i}_weight")).mean((1, 2, 3))
        return total


def load_perceptual_loss(device: torch.device) -> PerceptualLoss:
    """Load LPIPS from the models folder.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    return PerceptualLoss(load_file(str(weights.find("lpips-alexnet")))).to(device).requires_grad_(False)


class IdentityLoss(nn.Module):
    """1 - cosine similarity in a recogniser, on faces aligned by known landmarks.

    Args:
        name: Recogniser that has a network class of its own; never one the reports hold out.
        path: Its weights.
    """

    def __init__(self, name: str, path: Path) -> None:
        super().__init__()
        spec = find_spec(name)
        if spec.build is None:
            raise ValueError(f"Expected a recogniser with a network class of its own, got {name}.")
        self.spec, self.network = spec, spec.build()
        self.network.load_state_dict(load_file(str(path)))
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        """Compute identity vectors (B, D) of images (B, 3, S, S) in [-1, 1]."""
        size, side = self.spec.alignment.size, images.shape[-1]
        maps = np.stack([self.spec.alignment.aligned_to_image(points) for points in landmarks5.double().numpy()])
        grid = _sampling_grid(torch.from_numpy(maps).float(), size, side).to(images.device)
        aligned = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        x = ((aligned + 1) * 127.5 - self.mean) / self.std
        return F.normalize(self.network(x.flip(1) if self.spec.is_bgr else x).float(), dim=1)

    def forward(self, images: Tensor, target: Tensor, landmarks5: Tensor) -> Tensor:
        """Return 1 - similarity of every pair, (B,)."""
        with torch.no_grad():
            wanted = self.embed(target, landmarks5)
        return 1.0 - (self.embed(images, landmarks5) * wanted).sum(1)


def load_identity_loss(device: torch.device, name: str = "mobilefacenet-v1") -> IdentityLoss:
    """Load a recogniser from the models folder.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    return IdentityLoss(name, weights.find(name)).to(device)


class PatchCritic(nn.Module):
    """Tells real patches from decoded ones: (B, 3, S, S) to a map of logits (B, 1, S/8, S/8).

    Spectral norm keeps it smooth, so that no gradient penalty is needed.

    Source: Isola et al. (2017), patch discriminator; Miyato et al. (2018), spectral norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2)]
        layers.append(nn.utils.parametrizations.spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def critic_loss(real: Tensor, decoded: Tensor) -> Tensor:
    """Hinge loss of the critic from its logits."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + decoded).mean()


def _sampling_grid(aligned_to_image: Tensor, size: int, side: int) -> Tensor:
    """Turn maps (B, 2, 3) into a grid (B, size, size, 2) for `grid_sample` without aligned corners."""
    axis = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(1, -1, 3)
    pixels = points @ aligned_to_image.mT
    return ((2 * pixels + 1) / side - 1).view(-1, size, size, 2)
