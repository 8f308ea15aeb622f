"""Decrypts what is about to leave, and measures what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import NumericalError
from ..metrics.fidelity import compute_psnr
from .decrypt import decrypt_faces
from .keys import PrivacyKey
from .layout import Layout
from .mode_names import RecoveryMode
from .models import KeyedModel
from .modes import MODES
from .picture import KeyedPicture, Picture
from .regions import claimed_pixels, lay_crop, paste


@dataclass(frozen=True, slots=True)
class FaceReport:
    """What was done to one face.

    Attributes:
        number: In the keyed picture, from 0.
        mode: How the original comes back.
        attempts: Covers that were drawn.
        payload_bytes: Size of what is sealed.
        cover_psnr: Published against original pixels of the face, dB.
        recovered_psnr: Decrypted against original pixels of the face, dB; infinite when equal;
            None when not verified.
        bound_psnr: What the autoencoder alone would give, dB; None in mode `exact`.
    """

    number: int
    mode: RecoveryMode
    attempts: int
    payload_bytes: int
    cover_psnr: float
    recovered_psnr: float | None
    bound_psnr: float | None


def check_recovery(
    layout: Layout, done: KeyedPicture, key: PrivacyKey, model: KeyedModel | None, attempts: Sequence[int], *, verify: bool
) -> tuple[FaceReport, ...]:
    """Measure every new face, and decrypt it if asked to.

    Args:
        layout: The new faces.
        done: The keyed picture.
        key, model: As for encryption.
        attempts: Covers drawn, for each new face.
        verify: Decrypt, and compare.

    Raises:
        NumericalError: A face does not come back as its mode promises.
    """
    numbers = range(layout.first, layout.first + len(layout.faces))
    recovered = decrypt_faces(done, key, model, which=list(numbers)).pixels if verify else None
    reports = []
    for index, number in enumerate(numbers):
        owned = claimed_pixels([layout.claims[index]], *layout.original.shape[:2])
        face = done.faces[number]
        report = FaceReport(
            number=number,
            mode=face.header.mode,
            attempts=attempts[index],
            payload_bytes=len(getattr(face, "payload", b"")),
            cover_psnr=_psnr(layout.original, done.pixels, owned),
            recovered_psnr=None if recovered is None else _psnr(layout.original, recovered, owned),
            bound_psnr=_bound(layout, index, model, owned) if MODES[face.header.mode].needs_model else None,
        )
        _refuse_loss(report)
        reports.append(report)
    return tuple(reports)


def _bound(layout: Layout, index: int, model: KeyedModel | None, owned: NDArray[np.bool_]) -> float | None:
    """Measure the round trip of the autoencoder alone."""
    if model is None or layout.latents is None:
        return None
    with torch.no_grad():
        layer = lay_crop(model.decode(layout.latents[index : index + 1]), layout.regions[index], layout.claims[index])
    return _psnr(layout.original, paste(layout.original, layer, layout.claims[index], soft=False), owned)


def _refuse_loss(report: FaceReport) -> None:
    got, needed = report.recovered_psnr, MODES[report.mode].promise(report.cover_psnr, report.bound_psnr)
    if got is not None and got < needed:
        raise NumericalError(
            f"Expected face {report.number} to come back with at least {needed:.1f} dB, got {got:.1f} dB. Nothing was "
            "written. Use more steps and iterations, or mode latent or exact."
        )


def _psnr(original: Picture, changed: Picture, owned: NDArray[np.bool_]) -> float:
    value = compute_psnr(original, changed, owned)
    return float("inf") if value is None else value
