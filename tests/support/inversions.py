"""Inversions of nobody, small or as large as a file may get."""

from __future__ import annotations

import random
from collections.abc import Mapping

import torch

from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas
from faceprivacy_core.embeddings.inversion import FaceInversion, ModelIdentity, NoiseMap, StageTokens
from faceprivacy_core.images import place_crop
from faceprivacy_core.types import FaceCrops, Faces
from tests.support.faces import synthetic_face

IDENTITY = ModelIdentity("v1-5-pruned-emaonly.safetensors", "a" * 32, "b" * 32, "c" * 32)
SPOILS = ("bit", "byte", "overwrite", "extreme", "delete", "insert", "repeat", "cut", "prefix", "tail")


def two_crops(size: int = 64) -> FaceCrops:
    """Place two turned faces in the second of two pictures, and one in the first."""
    faces = (
        synthetic_face(100.3, 90.7, 120, angle_deg=7),
        synthetic_face(80, 90, 110, angle_deg=-12, image_index=1),
        synthetic_face(220, 100, 130, image_index=1),
    )
    placed = Faces(faces, 2, 200, 300)
    return FaceCrops(tuple(place_crop(face, size) for face in faces), placed, size=size)


def one_crop(size: int = 512) -> FaceCrops:
    """Place one turned face in one picture."""
    placed = Faces((synthetic_face(400.123, 300.77, 500, angle_deg=3),), 1, 640, 800)
    return FaceCrops((place_crop(placed.items[0], size),), placed, size=size)


def inversion(
    crops: FaceCrops, tokens: Mapping[str, StageTokens], *, steps: int = 4, identity: ModelIdentity = IDENTITY
) -> FaceInversion:
    """Return an inversion with random noise for given tokens; its conditions are the tokens themselves."""
    side = crops.size // 8
    sigmas = ddim_sigmas(NoiseSchedule.scaled_linear(), steps).float()
    noise = NoiseMap(torch.randn(len(crops), 4, side, side), tuple(sigmas.tolist()), 0.0125)
    stages = next(iter(tokens.values())).stacked()
    return FaceInversion(stages, torch.zeros(1, *stages.shape[2:]), identity, tokens=tokens, noise=noise, crops=crops)


def small_inversion(*, steps: int = 4, identity: ModelIdentity = IDENTITY) -> FaceInversion:
    """Return an inversion of three faces with a base, offsets and a second encoder."""
    torch.manual_seed(1)
    tokens = {
        "l": StageTokens(torch.randn(5, 3, 1, 8), torch.randn(3, 2, 8)),
        "g": StageTokens(torch.randn(5, 3, 2, 6)),
    }
    return inversion(two_crops(), tokens, steps=steps, identity=identity)


def spoil(data: bytes, kind: str, numbers: random.Random) -> bytes:
    """Change, cut out, put in, double or cut off a few bytes, in one of the ways of `SPOILS`."""
    # Every second time in front, where the structure is.
    place = numbers.randrange(min(len(data), numbers.choice([900, len(data)])))
    length = numbers.choice([1, 2, 4, 16, 100])
    front, back = data[:place], data[place:]
    return {
        "bit": lambda: front + bytes([back[0] ^ 1 << numbers.randrange(8)]) + back[1:],
        "byte": lambda: front + numbers.randbytes(1) + back[1:],
        "overwrite": lambda: front + numbers.randbytes(length) + back[length:],
        "extreme": lambda: front + numbers.choice([b"\0", b"\xff", b"9"]) * 4 + back[4:],
        "delete": lambda: front + back[length:],
        "insert": lambda: front + numbers.randbytes(length) + back,
        "repeat": lambda: front + back[:length] * 2 + back[length:],
        "cut": lambda: front,
        "prefix": lambda: data[: numbers.randrange(64)],
        "tail": lambda: data + numbers.randbytes(length),
    }[kind]()
