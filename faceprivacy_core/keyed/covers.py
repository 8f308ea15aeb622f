"""Covers: the faces that everybody sees, drawn from a key, a nonce and the public surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..builtin.donors import RIM_COST, SEX_COST, DonorBank, read_trait, rim_misfit
from ..diffusion.resampling import sample_resampled
from ..diffusion.samplers import Background
from ..protocols import Denoiser, Progress
from .derivation import FaceKey
from .keystream import Keystream
from .models import KeyedModel

REPEATS = 8
"""With fewer, hair and skin of the cover do not meet those around it."""
AMONG = 8
"""Donors that fit the surroundings best, of which the key takes one."""
DONOR_NOISE = 0.2
"""How far into noise a donor is taken while it is fitted into the surroundings, as a part of all steps; chosen by looking."""
DONOR_REPEATS = 1


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
    encoded), on the nonces and on secret noise, and on nothing else. Where the model brings donors, a face begins as one
    of those that fit the surroundings best and is fitted into them; else it is drawn from noise alone.

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

        start, repeats = torch.zeros_like(background.latent), REPEATS
        if model.donors is not None:
            start = choose_donors(model.donors, surroundings, face_cells, streams).to(model.device)
            sigmas, repeats = sigmas[-1 - max(1, round(DONOR_NOISE * steps)) :], DONOR_REPEATS
        start = start + float(sigmas[0]) * draw()
        return sample_resampled(
            denoiser, start, sigmas, None, background=background, draw=draw, repeats=repeats, progress=progress
        )

    return model.run(job, surroundings, steps)


def choose_donors(
    bank: DonorBank, surroundings: Tensor, face_cells: Tensor, streams: Sequence[Keystream]
) -> Tensor:  # fmt: skip
    """Take for every face one of the `AMONG` donors that fit best around it: by rim, and by the sex that hair and clothes tell.

    Args:
        bank: Generated faces.
        surroundings, face_cells: See `draw_independent`.
        streams: Secret; eight bytes of each choose.

    Returns:
        (N, C, h, w) latents of the chosen donors.
    """
    chosen = []
    for around, cells, stream in zip(surroundings, face_cells, streams, strict=True):
        around_face = F.max_pool2d(cells[None], 3, stride=1, padding=1)[0] - cells  # the inside is the person's
        misfit = rim_misfit(bank.latents, around, around_face)
        women = read_trait(bank, bank.women, around[None], cells[0] == 0)
        cost = RIM_COST * misfit / misfit.median().clamp(min=1e-6) + SEX_COST * (women - bank.women.float()).abs()
        cost[list(bank.flawed)] = torch.inf
        best = cost.argsort(stable=True)[:AMONG]
        chosen.append(best[int.from_bytes(stream.take(8), "little") % len(best)])
    return bank.latents[torch.stack(chosen)]


def background_on(device: torch.device, latents: Tensor, noise: Tensor, face_cells: Tensor) -> Background:
    """Build the held surroundings on a device."""
    return Background(latents.to(device), noise.to(device), face_cells.to(device))


def stack_normals(streams: Sequence[Keystream], shape: tuple[int, ...]) -> Tensor:
    """Draw the next normals of every stream, (N, *shape) float32."""
    count = int(torch.Size(shape).numel())
    return torch.stack([torch.from_numpy(stream.normals(count)).float().view(shape) for stream in streams])
