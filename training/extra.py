"""Writes the small file beside a model file: the detail head, the reader of the apparent sex, and donors with turned heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from faceprivacy_core.builtin.eight_bits import SCALE
from faceprivacy_core.builtin.extra import EXTRA_FILE, EXTRA_FORMAT, EXTRA_VERSION
from faceprivacy_core.builtin.model import build_encoder, read_face_model_file
from faceprivacy_core.builtin.traits import WOMAN
from faceprivacy_core.fingerprints import fingerprint, named_weights

from .donors import TURNED, make_donors
from .export import quantise
from .generator import Generator
from .loop import load_checkpoint
from .pictures import FacePool
from .settings import Settings
from .traits import fit_woman

LATENTS = "donors.latents"


def export_extra(settings: Settings, pool: FacePool, generator: Generator | None) -> Path:
    """Write FOLDER/face_model_extra.safetensors, in 16 bits: the averaged weights of the newest checkpoint, reader, donors.

    The reader is fitted to the model's donors; a file without any, or a toy, gets neither it nor more donors.
    """
    encoder = build_encoder(read_face_model_file(Path(settings.detail.model)))
    content = load_checkpoint(settings.folder / "detail.pt")
    weights = content["state"]["model"] | content["state"]["average"]
    tensors: dict[str, Tensor] = {f"detail.{name}": value for name, value in weights.items()}
    header: dict[str, Any] = {
        "detail": content["state"]["config"],
        "trained_steps": content["step"],
        "autoencoder": fingerprint(named_weights(encoder.autoencoder)),
    }
    if generator is not None and encoder.file.donors:
        reader = fit_woman(settings, pool, encoder.autoencoder, encoder.donors, generator)
        tensors |= {f"traits.{WOMAN}.weight": reader.weight, f"traits.{WOMAN}.bias": reader.bias}
        header["traits"] = [WOMAN]
        header["donors"], bank = make_donors(settings, encoder.autoencoder, TURNED, mirrored=True)
        tensors |= {f"donors.{name}": value for name, value in bank.items()}
    target = settings.folder / EXTRA_FILE
    metadata = {"format": EXTRA_FORMAT, "version": EXTRA_VERSION, "config": json.dumps(header, sort_keys=True)}
    save_file(_small(tensors), target, metadata)
    print(f"extra: {target}, {target.stat().st_size / 1e6:.2f} MB, {content['step']} steps")
    return target


def _small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep numbers in 16 bits and latents in 8, each with its scale."""
    small = {name: value.half().contiguous() for name, value in tensors.items()}
    if LATENTS in tensors:
        small[LATENTS], small[LATENTS + SCALE] = quantise(tensors[LATENTS])
    return small
