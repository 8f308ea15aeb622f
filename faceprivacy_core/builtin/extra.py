"""What was made for a finished model file after it: the detail head, readers of traits and more donors, in a small file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelFileError
from ..fingerprints import fingerprint, named_weights
from .autoencoder import AutoencoderConfig, FaceAutoencoder
from .detail import DetailConfig, DetailHead
from .donors import DonorBank, build_donors
from .eight_bits import dequantise
from .filling import DAMAGE, fill
from .traits import TraitReader

EXTRA_FILE = "face_model_extra.safetensors"
EXTRA_FORMAT = "faceprivacy-face-model-extra"
EXTRA_VERSION = "1"


@dataclass(frozen=True, eq=False)
class Extra:
    """Contents of the file.

    Attributes:
        detail: Draws crops at twice their side; None where there is none.
        traits: Readers by the name of the trait.
        donors: Stand behind those of the model file; None where there are none.
    """

    detail: DetailHead | None
    traits: Mapping[str, TraitReader]
    donors: DonorBank | None = None


NOTHING = Extra(None, {})


def load_extra(path: Path, autoencoder: FaceAutoencoder) -> Extra:
    """Load the file that lies beside a model file, float32, frozen; without one there is nothing in it.

    Raises:
        ModelFileError: The file is damaged, of another format, or belongs to another autoencoder.
    """
    if not path.is_file():
        return NOTHING
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
            kind = (found.get("format"), found.get("version"))
            if kind != (EXTRA_FORMAT, EXTRA_VERSION):
                raise ModelFileError(
                    f"Expected a {EXTRA_FORMAT} file of version {EXTRA_VERSION}, got format {kind[0]!r}, version {kind[1]!r} "
                    f"in {path}. Fetch the file of this release again, or take it away."
                )
            header = json.loads(found["config"])
            tensors = dequantise({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
        meant = str(header["autoencoder"])
        extra = Extra(_detail(header, tensors), _traits(header, tensors, autoencoder.config), _donors(header, tensors))
    except (SafetensorError, *DAMAGE) as error:
        raise ModelFileError(f"{path} is damaged ({error}). Fetch the file again, or take it away.") from error
    own = fingerprint(named_weights(autoencoder))
    if meant != own:
        raise ModelFileError(
            f"Expected what belongs to the model beside it (autoencoder {own[:8]}), got that of another (autoencoder "
            f"{meant[:8]}) in {path}. Fetch both files of one release again, or take this one away."
        )
    return extra


def _detail(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> DetailHead | None:
    if "detail" not in header:
        return None
    shape = {name: tuple(value) if isinstance(value, list) else value for name, value in header["detail"].items()}
    config = DetailConfig(**shape)
    try:
        return fill(lambda: DetailHead(config), _part(tensors, "detail."), "detail head")
    except ModelFileError as error:
        raise ValueError(str(error)) from error


def _traits(header: Mapping[str, Any], tensors: Mapping[str, Tensor], shape: AutoencoderConfig) -> dict[str, TraitReader]:
    names = list(header.get("traits", []))
    for name in names:
        found = tuple(tensors[f"traits.{name}.weight"].shape), tuple(tensors[f"traits.{name}.bias"].shape)
        if found != ((shape.latent_channels, shape.latent_side, shape.latent_side), (1,)):
            raise ValueError(f"reader of {name} for latents of {found[0]}")
    return {name: TraitReader(tensors[f"traits.{name}.weight"], tensors[f"traits.{name}.bias"]) for name in names}


def _donors(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> DonorBank | None:
    return build_donors(header["donors"], _part(tensors, "donors.")) if "donors" in header else None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
