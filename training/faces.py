"""Faces of people who do not exist, from seeds.

The generator is MobileStyleGAN, trained by its author on FFHQ (photographs whose collection is
licensed for non-commercial use), in the package random-face==2021.7.21.1 (Apache-2.0) as two
OpenVINO networks: mapping, noise (512) to style (512); synthesis, style to 3 x 1024 x 1024 in
[-1, 1]. Its files are not in this repository: unpack the package's wheel.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from .openvino_ir import IrNetwork, load_ir
from .pictures import resize
from .settings import Settings

PARTS = ("Mapping", "Synthesis")
STYLE_WIDTH = 512
MEAN_SAMPLES = 4096


class FaceSource(Protocol):
    """Something that draws pictures from seeds."""

    def draw(self, first_seed: int, count: int) -> Tensor:
        """Draw pictures (count, 3, side, side) uint8; picture i depends on first_seed + i alone."""
        ...


class FaceGenerator:
    """Draws faces from seeds.

    Args:
        mapping: (B, 512) noise to (B, 512) style.
        synthesis: (B, 512) style to (B, 3, 1024, 1024) in [-1, 1].
        truncation: Bounds of the factor by which a style's distance from the mean is shrunk.
        side: Side of the pictures it returns.
        device: Where it computes; half precision on a GPU.

    A seed's noise and truncation factor come from numpy's generator, the same as in
    `benchmarks/calibrate_recognizers.py`, so seeds name the same faces there and here.
    """

    def __init__(
        self, mapping: IrNetwork, synthesis: IrNetwork, truncation: tuple[float, float], side: int, device: torch.device
    ) -> None:
        self.truncation, self.side, self.device = truncation, side, device
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self._mapping = mapping.to(device, torch.float32)
        self._synthesis = synthesis.to(device, self.dtype)
        noise = np.random.default_rng(0).standard_normal((MEAN_SAMPLES, STYLE_WIDTH)).astype(np.float32)
        with torch.no_grad():
            self._mean = self._mapping(torch.from_numpy(noise).to(device)).mean(0, keepdim=True)

    @torch.no_grad()
    def draw(self, first_seed: int, count: int) -> Tensor:
        """See `FaceSource.draw`."""
        draws = [np.random.default_rng(first_seed + i) for i in range(count)]
        noise = np.stack([draw.standard_normal((1, STYLE_WIDTH)).astype(np.float32)[0] for draw in draws])
        factors = torch.tensor([[draw.uniform(*self.truncation)] for draw in draws], dtype=torch.float32).to(self.device)
        styles = self._mapping(torch.from_numpy(noise).to(self.device))
        pictures = self._synthesis((self._mean + factors * (styles - self._mean)).to(self.dtype)).float()
        return to_bytes(shrink(pictures.clamp(-1, 1), self.side))


class OvalSource:
    """Coloured ovals with two dark dots: for tests, where no generator is at hand."""

    def __init__(self, side: int) -> None:
        self.side = side

    def draw(self, first_seed: int, count: int) -> Tensor:
        """See `FaceSource.draw`."""
        axis = torch.linspace(-1, 1, self.side)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        pictures = []
        for seed in range(first_seed, first_seed + count):
            draw = torch.rand(9, generator=torch.Generator().manual_seed(seed))
            skin, back = draw[:3] * 1.6 - 0.6, draw[3:6] * 2 - 1
            width, height = 0.45 + 0.2 * draw[6], 0.6 + 0.2 * draw[7]
            oval = torch.sigmoid(12 * (1 - (x / width) ** 2 - (y / height) ** 2))
            eyes = sum(torch.exp(-((x - sign * 0.2) ** 2 + (y + 0.1) ** 2) / 0.006) for sign in (-1, 1))
            picture = back[:, None, None] * (1 - oval) + skin[:, None, None] * oval
            pictures.append(picture * (1 - eyes) - eyes * (0.4 + 0.6 * draw[8]))
        return to_bytes(torch.stack(pictures))


def to_bytes(images: Tensor) -> Tensor:
    """Turn pictures in [-1, 1] into uint8."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def shrink(images: Tensor, side: int) -> Tensor:
    """Reduce pictures: means over squares where the sides divide, low-pass and resample elsewhere."""
    if images.shape[-1] % side == 0:
        return F.avg_pool2d(images, images.shape[-1] // side)
    return resize(images, side)


def load_source(settings: Settings, device: torch.device) -> FaceSource:
    """Load what `settings.data.generator` names."""
    options = settings.data
    if options.generator == "synthetic":
        return OvalSource(options.side)
    path = Path(options.generator)
    if path.is_dir():
        networks = [load_ir(path / f"{part}Network.xml") for part in PARTS]
    elif path.is_file():
        networks = _load_packed(path)
    else:
        raise SystemExit(f"Expected the generator at {path}, found nothing. See 'Data' in training/README.md.")
    return FaceGenerator(networks[0], networks[1], options.truncation, options.side, device)


def pack_generator(folder: Path, path: Path) -> None:
    """Pack the generator's four files into one of half the size: constants in half precision.

    Args:
        folder: Holds MappingNetwork and SynthesisNetwork, .xml and .bin.
        path: Safetensors file to write.
    """
    tensors = {}
    for part in PARTS:
        network = load_ir(folder / f"{part}Network.xml")
        for name, value in network.constants().items():
            tensors[f"{part}.{name}"] = value.half() if value.is_floating_point() else value
        xml = zlib.compress((folder / f"{part}Network.xml").read_bytes(), 9)
        tensors[f"{part}.xml"] = torch.frombuffer(bytearray(xml), dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def _load_packed(path: Path) -> list[IrNetwork]:
    networks = []
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    for part in PARTS:
        xml = zlib.decompress(tensors.pop(f"{part}.xml").numpy().tobytes()).decode()
        own = {name[len(part) + 1 :]: value for name, value in tensors.items() if name.startswith(part + ".")}
        networks.append(IrNetwork(xml, own))
    return networks
