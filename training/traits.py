"""Fits the reader of the apparent sex: what a style says of the donors, said of many faces, read off their latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from faceprivacy_core.builtin.donors import DonorBank
from faceprivacy_core.builtin.traits import TraitReader

from .donors import read_list
from .generator import Generator
from .pictures import FacePool
from .settings import Settings

STYLE_RIDGE, LATENT_RIDGE = 1000.0, 3000.0
ROWS, COLUMNS = (5 / 16, 1.0), (3 / 16, 13 / 16)
"""Part of a latent that is looked at: the face below the hairline, for hair says less than it seems to."""
AT_ONCE = 16


@torch.no_grad()
def fit_woman(
    settings: Settings, pool: FacePool, autoencoder: FaceAutoencoder, bank: DonorBank, generator: Generator
) -> TraitReader:  # fmt: skip
    """Fit the reader on the pool and the donors.

    A few hundred faces are too few to tell sex from pose, light and hair. The style that a face is drawn from tells it for as
    many as one likes: a line through the donors' styles, whose sex somebody saw, gives that of the pool.
    """
    seen = bank.women.float() * 2.0 - 1.0
    truncation = settings.data.truncation
    styles_of = lambda seeds: generator.draw_styles(seeds, truncation).cpu()  # noqa: E731
    told = fit_line(styles_of([donor.seed for donor in read_list()]), seen, STYLE_RIDGE)(styles_of(pool.seeds.tolist()))
    images = torch.arange(len(pool.pictures)).split(AT_ONCE)
    side, device = settings.autoencoder.side, settings.run.torch_device()
    latents = torch.cat([autoencoder.encode(pool.whole(part, side, device).images).cpu() for part in images])
    cells = torch.zeros(latents.shape[1:], dtype=torch.bool)
    (top, bottom), (left, right) = ([round(part * cells.shape[-1]) for part in bounds] for bounds in (ROWS, COLUMNS))
    cells[:, top:bottom, left:right] = True
    known = torch.cat([latents, bank.latents])[:, cells]
    line = fit_line(known, torch.cat([told.clamp(-1.0, 1.0), seen]), LATENT_RIDGE)
    bias = line(torch.zeros(1, known.shape[1]))
    weight = torch.zeros(cells.shape)
    weight[cells] = line(torch.eye(known.shape[1])) - bias
    return TraitReader(weight, bias)


def fit_line(known: Tensor, wanted: Tensor, ridge: float) -> Callable[[Tensor], Tensor]:
    """Fit numbers (N,) to vectors (N, D) by ridge regression on each dimension's own scale; in doubt it says 0."""
    mean, spread = known.mean(0), known.std(0).clamp(min=1e-6)
    scaled = (known - mean) / spread
    inner = torch.linalg.solve(scaled @ scaled.T + ridge * torch.eye(len(known)), wanted - wanted.mean())
    slope = scaled.T @ inner
    return lambda asked: ((asked - mean) / spread) @ slope
