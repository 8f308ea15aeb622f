"""LPIPS: how different two pictures look to a network that agrees with people."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from .. import weights
from ..errors import InputError, ModelFileError
from .fidelity import Picture, Region, bounding_box, check_pair, mean_inside

MAX_LONG_SIDE = 1024
"""Larger pictures are measured in parts or reduced, see `PerceptualDistance.compute`."""

CONTEXT_PX = 64
"""Kept around a region that is cut out; about what one position of the deeper layers sees."""

MIN_SIDE_PX = 32
"""Below it the deepest layers have nothing left; smaller pictures are continued at their rims."""

_TINY = 1e-20
"""Square of the length that the package adds to feature vectors."""

_LAYERS = {"conv0": "slice1.0", "conv1": "slice2.3", "conv2": "slice3.6", "conv3": "slice4.8", "conv4": "slice5.10"}


class PerceptualDistance:
    """LPIPS v0.1 with AlexNet, averaged inside and outside a region.

    Args:
        model_path: lpips_alexnet.safetensors, see `load_perceptual`.
        device: Where it computes.

    Raises:
        ModelFileError: The heads in the file are not those of the package lpips.

    Source: Zhang, Isola, Efros, Shechtman and Wang (2018), The unreasonable effectiveness of
        deep features as a perceptual metric; package lpips (BSD-2-Clause).
    """

    def __init__(self, model_path: Path, device: torch.device | str = "cpu") -> None:
        import lpips  # takes seconds and brings torchvision; only what measures LPIPS waits for it

        state = load_file(str(model_path))
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # The package names an argument of torchvision that is out of date.
            warnings.simplefilter("ignore", UserWarning)
            network = lpips.LPIPS(net="alex", pnet_rand=True, spatial=True, verbose=False)
            network.net.load_state_dict(_backbone(state))
        for index, head in enumerate(network.lins):
            if not torch.equal(head.model[-1].weight, state[f"head{index}.weight"]):
                raise ModelFileError(
                    f"Expected the LPIPS v0.1 heads of the package lpips in {model_path}, got others in layer {index}. "
                    "Reinstall lpips, or run: faceprivacy models get lpips-alexnet"
                )
        with torch.inference_mode(False):
            self._network = network.to(device).requires_grad_(False).eval()
        self._device = torch.device(device)

    def compute_map(self, original: Picture, changed: Picture) -> NDArray[np.float32]:
        """Compute the difference at every pixel, at full size.

        Args:
            original: (H, W, 3) uint8.
            changed: (H, W, 3) uint8 of the same size.

        Returns:
            (H, W) float32, at least 0 and 0 where the surroundings are equal.
        """
        check_pair(original, changed, np.ones(original.shape[:2], dtype=np.bool_))
        height, width = original.shape[:2]
        with torch.no_grad():
            values = self._network(_to_tensor(original).to(self._device), _to_tensor(changed).to(self._device))
        return values[0, 0, :height, :width].cpu().numpy()

    def compute_differentiable(self, images: Tensor, references: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the mean difference of pictures as a function to differentiate.

        Args:
            images: (B, 3, H, W) float in [0, 1], both sides at least 32; gradients pass to them.
            references: (B, 3, H, W) in [0, 1]; no gradient.
            mask: (B, 1, H, W) at least 0, weight of every pixel, not all 0; None weighs all alike.

        Returns:
            (B,) float32, at least 0, on the device of this network. The value at every pixel is
            that of `compute_map`.

        Raises:
            InputError: The shapes differ, or the pictures are too small.

        Deviations: the length of a feature vector is safe to differentiate where all features
            are 0; the package gives NaN there.
        """
        _check_batch(images, references, mask)
        with torch.no_grad():
            expected = self._unit_features(references)
        layers = zip(self._unit_features(images), expected, self._network.lins, strict=True)
        maps = [_enlarged(head((found - kept) ** 2), images.shape[-2:]) for found, kept, head in layers]
        values = torch.stack(maps).sum(dim=0).flatten(1)
        if mask is None:
            return values.mean(dim=1)
        weight = mask.to(values).flatten(1)
        return (weight * values).sum(dim=1) / weight.sum(dim=1)

    def _unit_features(self, images: Tensor) -> list[Tensor]:
        """Return the features of every layer, scaled to length 1 at every position."""
        scaled = self._network.scaling_layer(images.to(self._device, torch.float32) * 2.0 - 1.0)
        return [f * (f.pow(2).sum(dim=1, keepdim=True) + _TINY).rsqrt() for f in self._network.net(scaled)]

    def compute(self, original: Picture, changed: Picture, region: Region) -> tuple[float | None, float | None]:
        """Compute the mean difference inside and outside a region.

        A picture with a long side of at most 1024 pixels is measured as it is. In a larger one
        the inside is measured on the box around the region, reduced to 1024 pixels if it is
        still larger, and the outside on the whole picture reduced to 1024 pixels. Reduction
        hides the finest changes, so values of large pictures compare with those of pictures of
        the same size only.

        Args:
            original: (H, W, 3) uint8.
            changed: (H, W, 3) uint8.
            region: (H, W) bool.

        Returns:
            Inside, outside; each at least 0, None when there are no such pixels.
        """
        check_pair(original, changed, region)
        if max(region.shape) <= MAX_LONG_SIDE:
            values = self.compute_map(original, changed)
            return mean_inside(values, region), mean_inside(values, ~region)
        inside = None
        if region.any():
            part = bounding_box(region, margin=CONTEXT_PX)
            inside = self._compute_reduced(original[part], changed[part], region[part])
        return inside, self._compute_reduced(original, changed, ~region)

    def _compute_reduced(self, original: Picture, changed: Picture, region: Region) -> float | None:
        if not region.any():
            return None
        weight = region.astype(np.float32)
        scale = MAX_LONG_SIDE / max(region.shape)
        if scale < 1:
            size = tuple(max(MIN_SIDE_PX, round(side * scale)) for side in region.shape[::-1])
            original, changed, weight = (
                cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (original, changed, weight)
            )
        return float(np.average(self.compute_map(original, changed), weights=weight))


def load_perceptual(search_dirs: Iterable[Path] = (), device: torch.device | str = "cpu") -> PerceptualDistance:
    """Load LPIPS.

    Args:
        search_dirs: Folders to search before the default models folder.
        device: Where it computes.

    Raises:
        ModelFileError: The model file is missing or damaged.
    """
    return PerceptualDistance(weights.find("lpips-alexnet", search_dirs), device)


def _backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the convolutions as the package does."""
    parts = {key: key.split(".") for key in state}
    return {f"{_LAYERS[layer]}.{kind}": state[key] for key, (layer, kind) in parts.items() if layer in _LAYERS}


def _to_tensor(picture: Picture) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) in [-1, 1], both sides at least MIN_SIDE_PX."""
    missing = [max(0, MIN_SIDE_PX - side) for side in picture.shape[:2]]
    padded = np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def _enlarged(values: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def _check_batch(images: Tensor, references: Tensor, mask: Tensor | None) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape != references.shape:
        raise InputError(
            f"Expected pictures and references of one shape (B, 3, H, W), got {tuple(images.shape)} "
            f"and {tuple(references.shape)}."
        )
    if min(images.shape[-2:]) < MIN_SIDE_PX:
        raise InputError(f"Expected pictures of at least {MIN_SIDE_PX} pixels on each side, got {tuple(images.shape[-2:])}.")
    if mask is not None and mask.shape != (len(images), 1, *images.shape[-2:]):
        raise InputError(f"Expected a mask of shape {(len(images), 1, *images.shape[-2:])}, got {tuple(mask.shape)}.")
