"""What recognisers say of the finished pictures, as they are saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import NumericalError
from ..images import paste_residual
from ..protocols import FaceRecognizer
from ..types import FaceCrops
from .sight import Identities, describe_similarities, see_faces, thresholds


@dataclass(frozen=True, eq=False)
class Verdict:
    """How well faces are protected.

    Attributes:
        similarities: (N, M) to the original or, impersonating, to the target.
        shortfall: (N,) by how much the least convinced recogniser misses its limit; below 0 none does.
    """

    similarities: Tensor
    shortfall: Tensor

    @property
    def is_protected(self) -> Tensor:
        """(N,) whether all recognisers agree that it is (impersonating: is) another person."""
        return self.shortfall < 0.0


class Judge:
    """Pastes changes into whole pictures and looks at them with 8 bits.

    Args:
        images: (B, 3, H, W) in [0, 1].
        crops: Placement of the N faces in them.
        mask: (B, 1, H, W) where pixels may change.
        recognizers: Who looks.
        device: Where they compute.
        target: Whom the faces shall be taken for; None is for nobody they are.
    """

    def __init__(
        self, images: Tensor, crops: FaceCrops, mask: Tensor, recognizers: Sequence[FaceRecognizer], device: torch.device,
        target: Identities | None = None,
    ) -> None:  # fmt: skip
        self.images, self.crops, self.mask = images, crops, mask
        self.recognizers, self.device, self.target = recognizers, device, target
        self._of = see_faces(recognizers, images.to(device), crops.faces) if target is None else target

    def paste(self, residuals: Tensor) -> Tensor:
        """Return the pictures with changes (N, 3, S, S) of their faces."""
        return paste_residual(self.images, residuals.to(self.images.device), self.crops, self.mask)

    def __call__(self, residuals: Tensor) -> Verdict:
        """Judge changes (N, 3, S, S) of the faces."""
        published = (self.paste(residuals) * 255.0).round() / 255.0
        seen = see_faces(self.recognizers, published.to(self.device), self.crops.faces)
        similarities = self._of.similarities(seen.vectors, torch.arange(len(self.crops))).cpu()
        missing = similarities - thresholds(self.recognizers)
        return Verdict(similarities, (missing if self.target is None else -missing).amax(dim=1))


def check_protected(verdict: Verdict, recognizers: Sequence[FaceRecognizer], wanted: str = "protected") -> None:
    """Let no face through that is not protected (or whatever it is `wanted` to be).

    Raises:
        NumericalError: There is one; says which, and how far from it it is.
    """
    protected = verdict.is_protected
    if bool(protected.all()):
        return
    face = int((~protected).nonzero()[0])
    names = [recognizer.name for recognizer in recognizers]
    shown = describe_similarities(names, verdict.similarities[face], thresholds(recognizers))
    raise NumericalError(
        f"Expected every face to be {wanted}, got {int((~protected).sum())} of {len(protected)} that are not; "
        f"face {face}: {shown}. Raise the iterations or the learning rate, lower the fidelity, or allow such "
        "results (require_protection)."
    )
