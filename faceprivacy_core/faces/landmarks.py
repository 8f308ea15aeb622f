"""Five landmarks that gradients pass through: YuNet as a torch network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import weights
from ..align import warp
from ..errors import InputError
from .onnx_networks import load_onnx

INPUT_SIDE = 256
"""Side to which crops are resized; an aligned face is then about 130 pixels wide, which YuNet knows well."""

STRIDES = (8, 16, 32)

SAME_FACE_DISTANCE = 0.35
"""An anchor reports the known face if its landmarks lie nearer than this, in eye-mouth distances."""

MIN_CONFIDENCE = 0.3
RELATIVE_CONFIDENCE = 0.5
"""Anchors less confident than this part of the best one are not looked at."""


class YuNetLandmarker(nn.Module):
    """Locates the landmarks of a face whose place is roughly known.

    The detector reports landmarks at every anchor of three grids. `focus` weighs the anchors
    that see the known face, once; `locate` averages their reports, so landmarks depend
    smoothly on the image and no choice of an anchor can jump.

    Args:
        network: Maps (B, 3, S, S) BGR in [0, 255], S a multiple of 32, to class, object, box
            and landmark outputs, three grids each.

    Source: Wu, Peng and Yu (2023), YuNet; decoding of anchors as in `cv2.FaceDetectorYN`.
    Deviations: average over anchors instead of the best one.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("anchors", _anchor_positions())
        self.register_buffer("strides", _anchor_strides())
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> YuNetLandmarker:
        """Stay in evaluation mode, whatever is asked for: the network is frozen."""
        return super().train(False)

    def scan(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Report what every anchor sees.

        Args:
            images: (B, 3, S, S) RGB in [0, 1], aligned crops of any size.

        Returns:
            Confidences (B, A) in [0, 1] and landmarks (B, A, 5, 2) in pixels of `images`.

        Raises:
            InputError: The images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise InputError(f"Expected square crops of shape (B, 3, S, S), got {tuple(images.shape)}.")
        factor = images.shape[-1] / INPUT_SIDE
        resized = _resize(images.to(self.anchors.device, torch.float32), factor)
        outputs = self.network(255.0 * resized.flip(1))
        # The network was stored for one image and lists those of a batch one after the other.
        scores, objects, _, points = (_join(outputs[i : i + 3], len(images)) for i in (0, 3, 6, 9))
        confidences = (scores * objects)[..., 0].clamp(min=0.0).sqrt()
        positions = self.anchors[:, None] + points.unflatten(2, (5, 2)) * self.strides[:, None, None]
        return confidences, (positions + 0.5) * factor - 0.5

    def focus(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        """Weigh the anchors that see known faces.

        Args:
            images: (N, 3, S, S) RGB in [0, 1].
            landmarks5: (N, 5, 2) pixel coordinates in those images.

        Returns:
            (N, A) weights, at least 0, every row of sum 1.

        Raises:
            InputError: No anchor sees one of the faces.
        """
        confidences, positions = self.scan(images)
        known = landmarks5.to(positions)
        unit = torch.linalg.vector_norm(known[:, 3:].mean(1) - known[:, :2].mean(1), dim=1)
        distances = torch.linalg.vector_norm(positions - known[:, None], dim=3).mean(dim=2) / unit[:, None]
        confidences = confidences * (distances < SAME_FACE_DISTANCE)
        best = confidences.amax(dim=1, keepdim=True)
        for index in torch.nonzero(best[:, 0] < MIN_CONFIDENCE).flatten().tolist():
            raise InputError(
                f"Expected a face whose landmarks can be followed in crop {index}, the detector saw none there "
                f"(confidence {float(best[index, 0]):.2f}). Set keep_landmarks to 0 for this picture."
            )
        kept = confidences * (confidences >= RELATIVE_CONFIDENCE * best)
        return kept / kept.sum(dim=1, keepdim=True)

    def locate(self, images: Tensor, focus: Tensor) -> Tensor:
        """Locate landmarks with weights from `focus`.

        Args:
            images: (B, 3, S, S) RGB in [0, 1], of any size S; gradients pass to them.
            focus: (B, A) weights of the anchors.

        Returns:
            (B, 5, 2) pixel coordinates in `images`, in the order of `Face.landmarks5`.
        """
        _, positions = self.scan(images)
        return torch.einsum("ba,bakc->bkc", focus, positions)


def load_landmarker(search_dirs: Iterable[Path] = (), device: torch.device | str = "cpu") -> YuNetLandmarker:
    """Load the landmark network, from the file of the default detector.

    Works inside a host's `torch.inference_mode()` too: the parameters are ordinary tensors.

    Args:
        search_dirs: Folders to search before the default models folder.
        device: Where it computes.

    Raises:
        ModelFileError: The model file is missing or damaged.
    """
    path = weights.find("yunet", search_dirs)
    with torch.inference_mode(False):
        return YuNetLandmarker(load_onnx(path)).to(device)


def _resize(images: Tensor, factor: float) -> Tensor:
    to_images = np.array([[factor, 0.0, (factor - 1.0) / 2.0], [0.0, factor, (factor - 1.0) / 2.0]])
    return images if factor == 1 else warp(images, to_images, (INPUT_SIDE, INPUT_SIDE))


def _join(grids: list[Tensor], batch_size: int) -> Tensor:
    return torch.cat([grid.reshape(batch_size, -1, grid.shape[-1]) for grid in grids], dim=1)


def _anchor_positions() -> Tensor:
    """Return the anchors of all grids, row by row, (A, 2) as (x, y) in pixels."""
    grids = []
    for stride in STRIDES:
        steps = stride * torch.arange(INPUT_SIDE // stride, dtype=torch.float32)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        grids.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
    return torch.cat(grids)


def _anchor_strides() -> Tensor:
    """Return the stride of every anchor, (A,)."""
    return torch.cat([torch.full(((INPUT_SIDE // stride) ** 2,), float(stride)) for stride in STRIDES])
