"""Draws the grids of the model card: round trips of the sample photos, the first 64 donors, 64 samples with donors' tokens.

    python -m benchmarks.model_grids [--out docs/images]

Nothing is chosen: the donors are the first 64 of the bank, the samples those of seeds 0 to 63, each from noise alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.builtin_model import cut_crops, decode
from benchmarks.pictures import ROOT, SAMPLES
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import ddim_sigmas
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.select import Which
from faceprivacy_core.pixels import to_pixels
from faceprivacy_core.regenerate import in_parts
from faceprivacy_core.rng import seeded_noise

COUNT, ACROSS, SIDE = 64, 8, 128
STEPS = 50
QUALITY = 88


def grid(pictures: Tensor, across: int, side: int) -> Image.Image:
    """Lay pictures (N, 3, S, S) in [0, 1] out in rows."""
    small = F.interpolate(pictures, size=(side, side), mode="area") if pictures.shape[-1] != side else pictures
    rows = [torch.cat(list(row), dim=2) for row in small.split(across)]
    return Image.fromarray(to_pixels(torch.cat(rows, dim=1)[None]))


def round_trips(model: FaceModel) -> Image.Image:
    """Every face of the sample photos, and below it what comes back."""
    crops = cut_crops(sorted(SAMPLES.glob("*.jpg")), load_detector(), model.resolution, Which.ALL).images
    back = decode(model, in_parts(model.autoencoder.encode, crops * 2.0 - 1.0))
    return grid(torch.cat([crops, back]), len(crops), model.resolution)


def samples(model: FaceModel, donors: Tensor) -> Tensor:
    """Draw a face from noise alone with the tokens of each donor (N, 3, S, S)."""
    tokens = in_parts(model.encode_tokens, donors)
    sigmas = ddim_sigmas(model.denoiser.schedule, STEPS, 1.0).float()
    noise = seeded_noise(range(len(donors)), tuple(model.donors.latents.shape[1:]))
    drawn = [
        sample_euler(model.denoiser, sigmas[0] * some, sigmas, told)
        for some, told in zip(noise.split(ACROSS), tokens.split(ACROSS), strict=True)
    ]
    return decode(model, torch.cat(drawn))


def main() -> None:
    """Draw the grids."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = load_face_model()
    with torch.no_grad():
        donors = decode(model, model.donors.latents[:COUNT])
        pictures = {
            "round_trips": round_trips(model),
            "donors": grid(donors, ACROSS, SIDE),
            "samples": grid(samples(model, donors), ACROSS, SIDE),
        }
    for name, picture in pictures.items():
        picture.save(args.out / f"{name}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
