"""What of a change at the deepest level arrives at the clean end: the spec's purification gain."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cloak_scenes import Scene
from faceprivacy_core.adversarial.levels import invert_to_levels
from faceprivacy_core.adversarial.reverse import reverse_step
from faceprivacy_core.builtin.model import FaceModel
from faceprivacy_core.cloak import CloakResult, CloakSettings
from faceprivacy_core.images import cut
from faceprivacy_core.metrics.fidelity import compute_psnr
from faceprivacy_core.pixels import to_pixels

RANDOM_SIZE = 0.1
"""Largest value of a random change, VP coordinates as in the paper."""

DRAWS = 4
Row = dict[str, Any]


def invert_face(scene: Scene, model: FaceModel, result: CloakResult) -> Tensor:
    """Return the latents (K + 1, 1, C, h, w) that an attack began from; the last was attacked."""
    side = (model.resolution, model.resolution)
    crop = cut(scene.image, result.crops)
    small = F.interpolate(crop, side, mode="bilinear", antialias=True, align_corners=False).clamp(0.0, 1.0)
    with torch.no_grad():
        latent = model.autoencoder.encode(small * 2.0 - 1.0)
    return invert_to_levels(model.denoiser, latent, result.levels, model.empty_tokens())


def measure_purification(scene: Scene, model: FaceModel, settings: CloakSettings, result: CloakResult) -> Row:
    """Compare how far two latents are apart before and after the way down.

    In VE coordinates the gain is |x_0(x_K + d) - x_0(x_K)| / |d|: 1 if the model changed nothing,
    less if it purifies. `reconstruction_db` says how well the unattacked way down undoes the
    inversion, against the autoencoder's own picture.

    Source: arXiv 2503.10350, claim that learned conditions purify less; gain as in our notes.
    """
    trajectory = invert_face(scene, model, result)
    reference, sigma = trajectory[-1], result.levels[len(result.levels)]
    drawn = torch.rand(DRAWS, *reference.shape[1:], generator=torch.Generator().manual_seed(settings.seed))
    random = RANDOM_SIZE * (2.0 * drawn - 1.0) * math.sqrt(1.0 + sigma**2)
    found = result.latents.to(reference) - reference
    starts = torch.cat([reference, reference + random, reference + found])
    with torch.no_grad():
        clean = go_down(starts, model, settings, result)
        pictures = [to_pixels((model.autoencoder.decode(x) + 1.0) / 2.0) for x in (trajectory[0], clean[:1])]
    gains = (clean[1:] - clean[:1]).flatten(1).norm(dim=1) / torch.cat([random, found]).flatten(1).norm(dim=1)
    everywhere = torch.ones(pictures[0].shape[:2], dtype=torch.bool).numpy()
    return {
        "gain_random": float(gains[:DRAWS].mean()),
        "gain_attack": float(gains[-1]),
        "reconstruction_db": compute_psnr(*pictures, everywhere),
        "errors": result.conditions.errors.mean(dim=1).tolist(),
        "learned_errors": result.conditions.learned_errors.mean(dim=1).tolist(),
    }


def go_down(x: Tensor, model: FaceModel, settings: CloakSettings, result: CloakResult) -> Tensor:
    """Take latents (n, C, h, w) of one face from the deepest level to the clean one."""
    face = torch.zeros(len(x), dtype=torch.long)
    for k in range(len(result.levels), 0, -1):
        x = reverse_step(model.denoiser, x, result.levels, k, result.conditions.of(k, face), shift=settings.shift)
    return x
