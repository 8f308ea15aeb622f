"""The energy of pose: eyes, nose and mouth stay where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..faces.sight import scale_landmarks
from .energies import tile


class Landmarker(Protocol):
    """Locates five landmarks, differentiably; `faces.landmarks.YuNetLandmarker` is one."""

    def focus(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        """Choose how to look at known faces, to be kept while the images change.

        Args:
            images: (N, 3, S, S) in [0, 1].
            landmarks5: (N, 5, 2) pixel coordinates of the faces.

        Returns:
            (N, A) weights of what the network reports.
        """
        ...

    def locate(self, images: Tensor, focus: Tensor) -> Tensor:
        """Return landmarks (B, 5, 2) in pixels of images (B, 3, S, S); gradients pass to the images."""
        ...


@dataclass(frozen=True, eq=False)
class KeepLandmarks:
    """Hold the landmarks of every result at those of its original.

    E_i = mean over the five landmarks of |p(I_i) - p(original of i)| / distance between the
    middles of eyes and mouth in the original. Scale-free; 0 for the original itself.

    Attributes:
        landmarker: Locates landmarks in results and originals alike.
        focus: (N, A) weights, see `Landmarker.focus`.
        references: (N, 5, 2) landmarks it locates in the originals, in their pixels.
        crop_size: Side of the originals.

    Source: not in Diff-Privacy, which has no energy of pose.
    """

    landmarker: Landmarker
    focus: Tensor
    references: Tensor
    crop_size: int

    @classmethod
    def of_originals(cls, landmarker: Landmarker, originals: Tensor, landmarks5: Tensor) -> KeepLandmarks:
        """Look at the originals (N, 3, S, S), whose landmarks (N, 5, 2) are known roughly.

        Raises:
            InputError: The network sees no face there.
        """
        with torch.inference_mode(False), torch.no_grad():
            originals = originals.detach().clone()
            focus = landmarker.focus(originals, landmarks5)
            references = landmarker.locate(originals, focus)
        return cls(landmarker, focus, references, originals.shape[-1])

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the energy (V * N,) of images (V * N, 3, S', S') in [0, 1]."""
        references = tile(scale_landmarks(self.references, self.crop_size, images.shape[-1]), len(images))
        found = self.landmarker.locate(images, tile(self.focus, len(images)))
        distances = torch.linalg.vector_norm(found - references, dim=2).mean(dim=1)
        return distances / eye_mouth_distance(references)


def eye_mouth_distance(landmarks5: Tensor) -> Tensor:
    """Return the distance (B,) between the middles of eyes and mouth of (B, 5, 2) landmarks."""
    return torch.linalg.vector_norm(landmarks5[:, 3:].mean(dim=1) - landmarks5[:, :2].mean(dim=1), dim=1)
