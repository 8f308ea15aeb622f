"""Face recognisers that gradients pass through, from whole pictures to identity vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from .. import weights
from ..align import warp
from ..errors import InputError, ModelFileError
from .calibration import load_calibration
from .onnx_networks import load_onnx
from .specs import (
    ARC112,
    DEFAULT_HELD_OUT,
    DEFAULT_SURROGATES,
    RECOGNIZER_NAMES,
    SPECS,
    Alignment,
    RecognizerSpec,
    find_spec,
)

__all__ = [
    "ARC112",
    "DEFAULT_HELD_OUT",
    "DEFAULT_SURROGATES",
    "RECOGNIZER_NAMES",
    "SPECS",
    "Alignment",
    "RecognizerSpec",
    "TorchRecognizer",
    "find_spec",
    "load_ensemble",
    "load_network",
    "load_recognizer",
]


class TorchRecognizer(nn.Module):
    """A frozen network with its alignment, scaling and thresholds (a `FaceRecognizer`).

    Args:
        spec: What the network expects.
        network: Maps (B, 3, S, S) scaled crops to (B, D) vectors.
        licence: Licence of the weights, as shown to users.
        thresholds: Similarity thresholds by false match rate.
        spare_thresholds: Those at which a face may stay unprotected; None takes `thresholds`.
    """

    def __init__(
        self,
        spec: RecognizerSpec,
        network: nn.Module,
        licence: str,
        thresholds: dict[float, float],
        spare_thresholds: dict[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.name = spec.name
        self.family = spec.family
        self.licence = licence
        self.thresholds = dict(thresholds)
        self.spare_thresholds = dict(thresholds if spare_thresholds is None else spare_thresholds)
        self.network = network
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TorchRecognizer:
        """Stay in evaluation mode, whatever is asked for: the network is frozen."""
        return super().train(False)

    def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        """Compute identity vectors; see `protocols.FaceRecognizer.embed`.

        Runs in float32 on the device of this module. Landmarks get no gradient.

        Raises:
            InputError: Shapes do not belong together or values leave [0, 1].
        """
        _check_input(images, landmarks5)
        images = images.to(device=self.mean.device, dtype=torch.float32)
        return self.embed_aligned(self.align(images, landmarks5))

    def align(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        """Cut the crops the network looks at, (B, 3, S, S) in [0, 1], from (B, 3, H, W)."""
        points = landmarks5.detach().cpu().double().numpy()
        maps = np.stack([self.spec.alignment.aligned_to_image(face) for face in points])
        crops = [warp(image[None], one, (self.spec.alignment.size,) * 2) for image, one in zip(images, maps, strict=True)]
        return torch.cat(crops)

    def embed_aligned(self, aligned: Tensor) -> Tensor:
        """Compute identity vectors (B, D) of aligned crops (B, 3, S, S) in [0, 1]."""
        x = (255.0 * aligned - self.mean) / self.std
        x = x.flip(1) if self.spec.is_bgr else x
        return F.normalize(self.network(x).float(), dim=1)


def load_recognizer(name: str, search_dirs: Iterable[Path] = (), device: torch.device | str = "cpu") -> TorchRecognizer:
    """Load a recogniser with its measured thresholds.

    Works inside a host's `torch.inference_mode()` too: the parameters are ordinary tensors.

    Args:
        name: One of `RECOGNIZER_NAMES`.
        search_dirs: Folders to search before the default models folder.
        device: Where it computes.

    Raises:
        InputError: The name is unknown.
        ModelFileError: The weights are missing, damaged, or not those of the calibration.
    """
    spec = find_spec(name)
    path = weights.find(name, search_dirs)
    file = weights.entry(name)
    calibration = load_calibration(name, file.sha256)
    with torch.inference_mode(False):
        network = load_network(spec, path)
        thresholds = calibration.thresholds, calibration.spare_thresholds
        return TorchRecognizer(spec, network, file.licence, *thresholds).to(device)


def load_ensemble(
    names: Sequence[str], search_dirs: Iterable[Path] = (), device: torch.device | str = "cpu"
) -> tuple[TorchRecognizer, ...]:
    """Load several recognisers, in the order of their names; see `load_recognizer`.

    Raises:
        InputError: No name or a name twice.
    """
    if not names or len(set(names)) != len(names):
        raise InputError(f"Expected the names of one or more different recognisers, got {list(names)}.")
    folders = list(search_dirs)
    return tuple(load_recognizer(name, folders, device) for name in names)


def load_network(spec: RecognizerSpec, path: Path) -> nn.Module:
    """Read the network of a recogniser from a verified file."""
    if spec.build is None:
        return load_onnx(path)
    network = spec.build()
    with safe_open(str(path), framework="pt") as stored:
        source = weights.entry(spec.name).source.sha256
        if (stored.metadata() or {}).get(weights.SOURCE_SHA256_KEY) != source:
            raise ModelFileError(
                f"Expected {path} to be made from a file with sha256 {source[:12]}..., "
                "got another origin. "
                f"Delete it and run: faceprivacy models get {spec.name}"
            )
        network.load_state_dict({key: stored.get_tensor(key) for key in stored.keys()})  # noqa: SIM118
    return network


def _check_input(images: Tensor, landmarks5: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise InputError(
            f"Expected pictures of shape (B, 3, H, W) with float values, got {tuple(images.shape)}, {images.dtype}."
        )
    if landmarks5.shape != (images.shape[0], 5, 2):
        raise InputError(f"Expected landmarks of shape ({images.shape[0]}, 5, 2), got {tuple(landmarks5.shape)}.")
    low, high = float(images.detach().amin()), float(images.detach().amax())
    if not (low >= -0.05 and high <= 1.05):
        raise InputError(f"Expected picture values in [0, 1], got {low:.3g} to {high:.3g}. Divide 8-bit values by 255.")
