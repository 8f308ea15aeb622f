"""Faces that travel in the noise of another face: the original is recovered from pixels alone.

`image` is ours: the noise of the face, standardised, goes through a secret rotation, and the
surroundings are held on public latents, so that both directions are exact inverses.
`signflip` is the rule of the paper, with its weaknesses, for comparison.

Source: Labarbarie, Itier, Puech (2025), arXiv 2510.01031, eqs. 3 to 7.
Deviations of `image`: rotation in place of the sign flip (eq. 6), because |z_T| under the mask
    survives a flip and identifies the face; public surroundings in place of the pasted
    trajectory (eq. 7), because the decryptor's trajectory differs and the original's leaks;
    fixed-point inversion in place of the naive one (eq. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.inversion import as_if_at, invert_euler
from ..diffusion.samplers import Background, sample_euler
from ..errors import FormatError, NumericalError
from ..protocols import Denoiser, Progress
from .derivation import FaceKey
from .keystream import Keystream
from .models import KeyedModel
from .rotation import Rotation

CHANNELWISE_FROM = 64
"""Cells of a face from which every channel of its noise is rotated by itself. Fine channels are read off a picture far less
exactly than coarse ones; one rotation of all would spread their error over everything. With fewer cells a rotation would
hide too little."""
MAX_RESIDUAL = 0.05
"""Relative error of an inversion step above which the way back would not lead to the face."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and root mean square that standardise noise, of a face or of one channel of it; secret, they identify it."""

    mean: float
    scale: float


def encrypt_noise(
    model: KeyedModel,
    face: Tensor,
    background: Background,
    key: FaceKey,
    steps: int,
    iterations: int,
    progress: Progress | None = None,
    *,
    channelwise: bool = True,
) -> tuple[Tensor, tuple[Moments, ...]]:
    """Turn the latent of a face into that of another one.

    Args:
        model: Model.
        face: (1, C, h, w) latent of the original.
        background: Public surroundings, on the model's device.
        key: Of this face.
        steps: Sampling steps over the whole schedule.
        iterations: Fixed-point iterations of the inversion.
        channelwise: Rotate every channel by itself, where the face has at least `CHANNELWISE_FROM` cells.

    Returns:
        (1, C, h, w) latent of the visible face, and the moments of the original's noise: one, or one a channel.

    Raises:
        NumericalError: The inversion did not converge, so the way back would fail.
    """
    found: list[Moments] = []
    channels = face.shape[1]
    cells = int((background.mask > 0).sum())
    groups = channels if channelwise and cells >= CHANNELWISE_FROM else 1

    def job(denoiser: Denoiser, sigmas: Tensor) -> Tensor:
        noise = _invert(denoiser, face.to(model.device), sigmas, background, iterations, progress)
        vector = _face_vector(noise, background, float(sigmas[0]))
        parts = np.split(vector, groups)
        found.extend(Moments(float(part.mean()), float(np.sqrt(np.mean((part - part.mean()) ** 2)))) for part in parts)
        turns = _rotations(key, groups, len(parts[0]))
        rotated = [turn.apply((part - m.mean) / m.scale) for turn, part, m in zip(turns, parts, found, strict=True)]
        start = _with_face_vector(noise, np.concatenate(rotated), background, float(sigmas[0]))
        return sample_euler(denoiser, background.restore(start, float(sigmas[0])), sigmas, None, background=background)

    return model.run(job, face, steps), tuple(found)


def decrypt_noise(
    model: KeyedModel,
    visible: Tensor,
    background: Background,
    key: FaceKey,
    moments: Sequence[Moments],
    steps: int,
    iterations: int,
    progress: Progress | None = None,
) -> Tensor:
    """Undo `encrypt_noise`; another key gives another face. Arguments as there.

    Raises:
        FormatError: There are neither one pair of moments nor one a channel.
        NumericalError: The inversion did not converge.
    """
    if len(moments) not in (1, visible.shape[1]):
        raise FormatError

    def job(denoiser: Denoiser, sigmas: Tensor) -> Tensor:
        noise = _invert(denoiser, visible.to(model.device), sigmas, background, iterations, progress)
        vector = _face_vector(noise, background, float(sigmas[0]))
        parts = np.split(vector, len(moments))
        turns = _rotations(key, len(parts), len(parts[0]))
        original = [turn.invert(part) * m.scale + m.mean for turn, part, m in zip(turns, parts, moments, strict=True)]
        start = _with_face_vector(noise, np.concatenate(original), background, float(sigmas[0]))
        return sample_euler(denoiser, background.restore(start, float(sigmas[0])), sigmas, None, background=background)

    return model.run(job, visible, steps)


def flip_signs(
    model: KeyedModel, face: Tensor, face_cells: Tensor, key: FaceKey, steps: int, progress: Progress | None = None
) -> Tensor:
    """Apply the paper's rule, which is its own inverse.

    Naive DDIM inversion of the whole crop (see `invert_euler`), signs flipped under the mask at full noise, DDIM
    back with the stored inversion trajectory pasted outside the mask after every step.

    Args:
        model: Model.
        face: (1, C, h, w) latent of the original, or of the encrypted picture.
        face_cells: (1, 1, h, w), 1 under the mask.
        key: Of this face.
        steps: Sampling steps over the whole schedule.
    """

    def job(denoiser: Denoiser, sigmas: Tensor) -> Tensor:
        cells = face_cells.to(model.device)
        levels = sigmas.flip(0).tolist()
        trajectory = [face.to(model.device)]
        for low, high in pairwise(levels):
            x = as_if_at(trajectory[-1], low, high)
            slope = (x - denoiser(x, high, None)) / high
            trajectory.append(trajectory[-1] + (high - low) * slope)
        signs = Keystream(key.subkey("signs")).signs(face[0].numel())
        flipped = torch.from_numpy(signs).to(trajectory[-1]).view_as(face) * trajectory[-1]
        x = cells * flipped + (1.0 - cells) * trajectory[-1]
        for index in range(len(levels) - 1, 0, -1):
            sigma, sigma_next = levels[index], levels[index - 1]
            denoised = denoiser(x, sigma, None)
            x = denoised + (sigma_next / sigma) * (x - denoised)
            x = cells * x + (1.0 - cells) * trajectory[index - 1]
            if progress is not None:
                progress(len(levels) - index, len(levels) - 1, denoised)
        return x

    return model.run(job, face, steps)


def _rotations(key: FaceKey, count: int, size: int) -> list[Rotation]:
    """Make one rotation of everything, or one a channel."""
    names = ["rot"] if count == 1 else [f"rot{number}" for number in range(count)]
    return [Rotation(key.subkey(name), size) for name in names]


def _invert(
    denoiser: Denoiser, latent: Tensor, sigmas: Tensor, background: Background, iterations: int, progress: Progress | None
) -> Tensor:
    inversion = invert_euler(denoiser, latent, sigmas, None, iterations=iterations, background=background, progress=progress)
    if inversion.residual > MAX_RESIDUAL:
        raise NumericalError(
            f"Expected an inversion with a relative residual of at most {MAX_RESIDUAL}, got {inversion.residual:.3g}: the "
            "way back would not lead to the face. Use more steps or iterations, a prompt without guidance, or mode latent."
        )
    return inversion.noise


def _face_vector(noise: Tensor, background: Background, sigma: float) -> NDArray[np.float64]:
    """Return the face's coordinates of unit noise, in float64."""
    inside = _inside(noise, background)
    return (noise[inside].double() / sigma).cpu().numpy()


def _with_face_vector(noise: Tensor, vector: NDArray[np.float64], background: Background, sigma: float) -> Tensor:
    changed = noise.clone()
    changed[_inside(noise, background)] = (torch.from_numpy(vector) * sigma).to(noise)
    return changed


def _inside(noise: Tensor, background: Background) -> Tensor:
    return (background.mask > 0).expand_as(noise)
