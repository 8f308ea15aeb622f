"""Donors: faces of people who do not exist, whose look may be lent to a person."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ModelFileError
from .traits import WOMAN, TraitReader

VECTORS = "vectors."
SEX_COST = 20.0
"""Cost of an apparent sex that is not the person's, times how sure it is."""
RIM_COST = 10.0
"""Cost of a donor whose rim fits as badly as the median one's does."""
TRAIT_RIDGE = 1000.0
"""Sex and age are read off the latent by ridge regression on the bank. Of 75 photographs (people 000 to 074) it says the sex of
67 as we see it; from recognisers' vectors in place of latents it is 48."""
FLAWED = {
    "4a0a48c69034": (
        20, 49, 52, 67, 79, 116, 234, 244,  # a ring in the nose, traces of glasses, hard shadows
        6, 29, 53, 69, 82, 87, 102, 109, 115, 134, 159, 178, 180, 192, 206, 209, 213, 241, 248,  # strands before the forehead
    )
}  # fmt: skip
"""Donors that look damaged in another light or under another's hair, by `_bank_id`: they stand in the file, but are lent to
nobody."""


@dataclass(frozen=True, eq=False)
class DonorBank:
    """D generated faces, with what is needed to choose among them.

    Attributes:
        latents: (D, C, h, w) of the built-in autoencoder.
        landmarks5: (D, 5, 2) as fractions of the crop's side.
        skin: (D, 3) median colour of both cheeks, RGB in [0, 1].
        vectors: Identity vectors (D, E) of length 1 by recogniser.
        women: (D,) bool, apparent sex.
        older: (D,) bool, about fifty or more by appearance.
        flawed: Numbers of donors that are lent to nobody.
        woman: Reads the apparent sex of other faces; None where nothing was trained for it.
    """

    latents: Tensor
    landmarks5: Tensor
    skin: Tensor
    vectors: Mapping[str, Tensor]
    women: Tensor
    older: Tensor
    flawed: tuple[int, ...] = ()
    woman: TraitReader | None = None

    def __len__(self) -> int:
        return len(self.latents)


def rim_misfit(donors: Tensor, around: Tensor, rim: Tensor) -> Tensor:
    """Say how badly donors fit where a new face ends: squared distance of the latents there.

    Args:
        donors: (D, C, h, w).
        around: (C, h, w) latent of the picture.
        rim: (1, h, w) in [0, 1], how much of a cell is rim; see `rim_of`.

    Returns:
        (D,), the smaller, the better.
    """
    return ((donors - around).square() * rim).sum((1, 2, 3))


def rim_of(mask: Tensor, size: int) -> Tensor:
    """Return where masks (N, 1, S, S) end, on a grid of `size` cells: 1 in cells of which half is inside, 0 in whole ones."""
    inside = F.adaptive_avg_pool2d(mask, size)
    return 4.0 * inside * (1.0 - inside)


def read_woman(bank: DonorBank, latents: Tensor) -> Tensor:
    """Read the apparent sex off latents (N, C, h, w), (N,) in [0, 1], 1 for a woman; by the bank where it has no reader."""
    return read_trait(bank, bank.women, latents) if bank.woman is None else bank.woman.read(latents)


def read_trait(bank: DonorBank, trait: Tensor, latents: Tensor, cells: Tensor | None = None) -> Tensor:
    """Read an apparent trait off latents by comparing with the donors.

    Args:
        bank: Whose donors show what it looks like.
        trait: (D,) bool of the donors.
        latents: (N, C, h, w).
        cells: (h, w) bool, which of them are looked at; None looks at all.

    Returns:
        (N,) in [0, 1], 1 where the trait is there; 0.5 in doubt, however common it is in the bank.
    """
    known, asked = ((part if cells is None else part[:, :, cells]).flatten(1) for part in (bank.latents, latents))
    mean, spread = known.mean(0), known.std(0).clamp(min=1e-6)
    known, asked = (known - mean) / spread, (asked - mean) / spread
    wanted = trait.float() * 2.0 - 1.0
    weights = torch.linalg.solve(known @ known.T + TRAIT_RIDGE * torch.eye(len(known)), wanted - wanted.mean())
    return ((asked @ (known.T @ weights) + 1.0) / 2.0).clamp(0.0, 1.0)


def build_donors(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], traits: Mapping[str, TraitReader] | None = None
) -> DonorBank:  # fmt: skip
    """Build the bank of a model file.

    Args:
        config: The header's `donors`: `sex` of every donor as one letter (w, m), `age` as one (a, o).
        tensors: Weights of the part `donors`, already float32.
        traits: Readers of traits, by name.

    Raises:
        ModelFileError: The bank is missing, or its parts are not of the same faces.
    """
    needed = {"latents": 4, "landmarks5": 3, "skin": 2}
    vectors = {name[len(VECTORS) :]: value for name, value in tensors.items() if name.startswith(VECTORS)}
    sexes, ages = (str(config.get(name, "")) if isinstance(config, Mapping) else "" for name in ("sex", "age"))
    counts = {len(sexes), len(ages), *(value.shape[0] if value.ndim else 0 for value in tensors.values())}
    fits = all(name in tensors and tensors[name].ndim == dimensions for name, dimensions in needed.items())
    fits = fits and tensors["landmarks5"].shape[1:] == (5, 2) and tensors["skin"].shape[1:] == (3,)
    fits = fits and all(value.ndim == 2 for value in vectors.values())
    if not fits or not vectors or len(counts) != 1 or not sexes:
        raise ModelFileError(
            f"Expected a bank of donors in the model file, got {sorted(tensors) or 'none'} of {sorted(counts)} faces. "
            "Use the model file of this release."
        )
    women, older = ([letter == wanted for letter in letters] for letters, wanted in ((sexes, "w"), (ages, "o")))
    return DonorBank(
        tensors["latents"], tensors["landmarks5"], tensors["skin"], vectors, torch.tensor(women), torch.tensor(older),
        FLAWED.get(_bank_id(sexes, ages), ()), (traits or {}).get(WOMAN),
    )  # fmt: skip


def join_banks(bank: DonorBank, others: DonorBank) -> DonorBank:
    """Return a bank with others behind its donors; numbers, flawed donors and readers stay those of the first.

    Raises:
        ModelFileError: The two do not know the same recognisers, or are not latents of one shape.
    """
    known, asked = ({name: part.shape[1:] for name, part in one.vectors.items()} for one in (bank, others))
    if known != asked or bank.latents.shape[1:] != others.latents.shape[1:]:
        raise ModelFileError(
            f"Expected more donors like those of the model file ({tuple(bank.latents.shape[1:])}, known to "
            f"{', '.join(sorted(bank.vectors))}), got {tuple(others.latents.shape[1:])}, known to "
            f"{', '.join(sorted(others.vectors))}. Fetch both files of one release again."
        )
    both = {
        name: torch.cat([getattr(bank, name), getattr(others, name)])
        for name in ("latents", "landmarks5", "skin", "women", "older")
    }
    vectors = {name: torch.cat([known, others.vectors[name]]) for name, known in bank.vectors.items()}
    return replace(bank, **both, vectors=vectors)


def _bank_id(sexes: str, ages: str) -> str:
    return hashlib.sha256((sexes + ages).encode()).hexdigest()[:12]
