"""A keyed model with known answers: an orthogonal autoencoder, an ideal denoiser."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.donors import DonorBank
from faceprivacy_core.diffusion.samplers import Background
from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas
from faceprivacy_core.keyed.keys import PrivacyKey

RAW_KEY = bytes(range(32))
SIDE = 64
SCALE = 4.0
"""Brings the largest coefficients, the means of blocks, to about unit variance."""


class MixtureKeyedModel:
    """Pictures are a mixture of smooth patterns and noise; latents are block cosines.

    A latent position holds the lowest cosine coefficients of the three colours of its block of
    pixels, 4 of 8 x 8 unless said otherwise, so that a part of the pixels tells all of it, as with a real autoencoder.

    Face and surroundings depend on each other strongly, as in real pictures.

    Args:
        variance: Of the noise around the patterns.
        steepness: Of ripples added to the denoiser's answer; large values break inversion.
        temperature: Above 1, patterns are mixed more evenly than is ideal; inversion converges
            in few steps even on pictures far from all patterns.
        factor: Side of a block, pixels.
        kept: Lowest cosines kept along each side of a block.
        side: Of the crops, pixels.
        channels: Of the latents: so many of the cosines, the lowest ones; None for all.
    """

    def __init__(
        self,
        variance: float = 0.02,
        steepness: float = 1.0,
        temperature: float = 1.0,
        factor: int = 8,
        kept: int = 2,
        channels: int | None = None,
        side: int = SIDE,
    ) -> None:
        self.crop_size, self.device, self.factor = side, torch.device("cpu"), factor
        self.donors: DonorBank | None = None
        self.variance, self.steepness, self.calls = variance, steepness, 0
        self.temperature = temperature
        generator = torch.Generator().manual_seed(0)
        coarse = 0.4 * torch.randn(5, 3, 4, 4, generator=generator)
        patterns = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-0.6, 0.6)
        cosines = _block_cosines(factor, kept)
        lowest = sorted(range(len(cosines)), key=lambda index: sum(divmod(index % kept**2, kept)))
        self.basis = cosines if channels is None else cosines[lowest[:channels]]
        self.means = self.encode((patterns + 1.0) / 2.0).flatten(1)

    def encode(self, crops: Tensor) -> Tensor:
        return F.conv2d(crops * 2.0 - 1.0, self.basis, stride=self.factor) / SCALE

    def decode(self, latents: Tensor) -> Tensor:
        return ((SCALE * F.conv_transpose2d(latents, self.basis, stride=self.factor) + 1.0) / 2.0).clamp(0.0, 1.0)

    def run(self, job: Callable[..., Tensor], latents: Tensor, steps: int) -> Tensor:
        return job(self.denoise, ddim_sigmas(NoiseSchedule.scaled_linear(), steps).float()).float()

    def denoise(self, x: Tensor, sigma: float, cond: object = None) -> Tensor:
        self.calls += 1
        flat = x.flatten(1)
        total = self.variance + sigma**2
        means = self.means.to(flat)
        weights = torch.softmax(-((flat[:, None] - means) ** 2).sum(2) / (2 * total * self.temperature), dim=1)
        answer = (self.variance * flat + sigma**2 * (weights @ means)) / total
        if self.steepness != 1.0:
            answer = answer + torch.sin(self.steepness * flat) * sigma
        return answer.view_as(x)

    def vae_fingerprint(self) -> str:
        return "a" * 32

    def model_fingerprint(self) -> str:
        return "b" * 32

    def condition_fingerprint(self) -> str:
        return "c" * 32

    def draw_crop(self, seed: int) -> Tensor:
        """Draw a picture of the mixture, (1, 3, 64, 64) in [0, 1]."""
        generator = torch.Generator().manual_seed(seed)
        chosen = int(torch.randint(len(self.means), (1,), generator=generator))
        flat = self.means[chosen] + self.variance**0.5 * torch.randn(self.means.shape[1], generator=generator)
        positions = self.crop_size // self.factor
        return self.decode(flat.view(1, -1, positions, positions))


def _block_cosines(side: int, kept: int) -> Tensor:
    """Return orthonormal filters (3 * kept^2, 3, side, side): the lowest cosines of each colour."""
    rows = torch.from_numpy(dct(np.eye(side), norm="ortho", axis=0)[:kept]).float()
    waves = torch.einsum("ay,bx->abyx", rows, rows).reshape(kept * kept, 1, side, side)
    filters = torch.zeros(3, kept * kept, 3, side, side)
    for colour in range(3):
        filters[colour, :, colour] = waves[:, 0]
    return filters.reshape(-1, 3, side, side)


def raw_key(first: int = 0) -> PrivacyKey:
    """Return a handle on a fixed key; other values of `first` give other keys."""
    return PrivacyKey.from_bytes(bytes([first, *RAW_KEY[1:]]))


def face_cells() -> Tensor:
    """Return cells of a face in the middle, (1, 1, 8, 8)."""
    cells = torch.zeros(1, 1, 8, 8)
    cells[:, :, 2:7, 2:6] = 1.0
    return cells


def background_of(model: MixtureKeyedModel, crop: Tensor, seed: int = 0) -> Background:
    """Return public surroundings of a crop: its face replaced by grey before it was encoded."""
    cells = face_cells()
    blank = F.interpolate(cells, scale_factor=8)
    latent = model.encode(crop * (1.0 - blank) + 0.5 * blank)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    return Background(latent, noise, cells)


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the cosine of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
