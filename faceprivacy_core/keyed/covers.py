"""Covers: the faces that everybody sees, drawn from a key, a nonce and the public surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..diffusion.resampling import sample_resampled
from ..diffusion.samplers import Background
from ..protocols import Denoiser, Progress
from .derivation import FaceKey
from .keystream import Keystream
from .models import KeyedModel

REPEATS = 8
"""With fewer, hair and skin of the cover do not meet those around it."""


def public_noise(nonces: Sequence[bytes], shape: tuple[int, ...]) -> Tensor:
    """Draw the noise of the surroundings from the public nonces, (N, *shape) float32."""
    return stack_normals([Keystream(nonce + nonce) for nonce in nonces], shape)


def draw_independent(
    model: KeyedModel,
    surroundings: Tensor,
    face_cells: Tensor,
    keys: Sequence[FaceKey],
    nonces: Sequence[bytes],
    steps: int,
    progress: Progress | None = None,
) -> Tensor:
    """Draw faces that know nothing of the originals.

    The result depends on the surroundings (from which the faces were removed before they were
    encoded), on the nonces and on secret noise, and on nothing else.

    Args:
        model: Model with a VAE.
        surroundings: (N, C, h, w) latents without the faces.
        face_cells: (N, 1, h, w), 1 where a face is to be drawn.
        keys: Of the N faces.
        nonces: Of the N faces.
        steps: Sampling steps over the whole schedule.

    Returns:
        (N, C, h, w) latents; outside the cells those of the surroundings.
    """
    shape = tuple(surroundings.shape[1:])
    streams = [Keystream(key.subkey("cover")) for key in keys]
    background = background_on(model.device, surroundings, public_noise(nonces, shape), face_cells)

    def job(denoiser: Denoiser, sigmas: Tensor) -> Tensor:
        def draw() -> Tensor:
            return stack_normals(streams, shape).to(model.device)

        start = float(sigmas[0]) * draw()
        return sample_resampled(
            denoiser, start, sigmas, None, background=background, draw=draw, repeats=REPEATS, progress=progress
        )

    return model.run(job, surroundings, steps)


def background_on(device: torch.device, latents: Tensor, noise: Tensor, face_cells: Tensor) -> Background:
    """Build the held surroundings on a device."""
    return Background(latents.to(device), noise.to(device), face_cells.to(device))


def stack_normals(streams: Sequence[Keystream], shape: tuple[int, ...]) -> Tensor:
    """Draw the next normals of every stream, (N, *shape) float32."""
    count = int(torch.Size(shape).numel())
    return torch.stack([torch.from_numpy(stream.normals(count)).float().view(shape) for stream in streams])
