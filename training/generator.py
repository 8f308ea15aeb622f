"""The face generator as a plain module, read from its package's files.

MobileStyleGAN (Belousov 2021, arXiv 2104.04767) in the package random-face==2021.7.21.1 (Apache-2.0):
a mapping from noise (512) to style (512), and a synthesis from a learned 4x4 map over fifteen styled
blocks to a picture of 1024 pixels. Only the constants of the two OpenVINO files are read, in the order
of their numbers; the shapes say which is which.
"""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from faceprivacy_core.builtin.styled import SLOPE, STYLE_WIDTH, StyledBlock, inverse_haar

PARTS = ("Mapping", "Synthesis")
MAPPING_LAYERS = 8
CHANNELS = (512, 512, 512, 512, 512, 512, 512, 512, 512, 256, 256, 128, 128, 64, 64)
"""Channels that leave each block; every second block raises the side, from 4 to 512."""
START_SIDE = 4
MEAN_SAMPLES = 4096


def block_side(index: int) -> int:
    """Return the side in pixels of what a block of the synthesis gives."""
    return START_SIDE * 2 ** ((index + 1) // 2)


class Generator(nn.Module):
    """Noise to style, style to features and pictures; frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(nn.Linear(STYLE_WIDTH, STYLE_WIDTH) for _ in range(MAPPING_LAYERS))
        self.start = nn.Parameter(torch.zeros(1, STYLE_WIDTH, START_SIDE, START_SIDE))
        before = (STYLE_WIDTH, *CHANNELS)
        self.blocks = nn.ModuleList(
            StyledBlock(before[i], CHANNELS[i], block_side(i), raises=i % 2 == 1, full=i == 0) for i in range(len(CHANNELS))
        )
        self.head_style = nn.Linear(STYLE_WIDTH, CHANNELS[-1])
        self.head = nn.Conv2d(CHANNELS[-1], 12, 1)
        self.register_buffer("mean_style", torch.zeros(STYLE_WIDTH))
        self.requires_grad_(False)

    def styles(self, noise: Tensor) -> Tensor:
        """Map noise (B, 512) to styles (B, 512), not truncated."""
        x = noise * (noise.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            x = F.leaky_relu(layer(x), SLOPE) * 2**0.5
        return x

    def features(self, styles: Tensor, last: int, first: int = 0, x: Tensor | None = None) -> Tensor:
        """Run blocks `first` to `last`; `x` (B, C, h, w) is what block `first` gets, by default the learned start."""
        x = self.start.expand(len(styles), -1, -1, -1) if x is None else x
        for block in self.blocks[first : last + 1]:
            x = block(x, styles)
        return x

    def picture(self, styles: Tensor) -> Tensor:
        """Draw pictures (B, 3, 1024, 1024), about [-1, 1]."""
        x = self.features(styles, len(self.blocks) - 1)
        return inverse_haar(self.head(x * self.head_style(styles)[..., None, None]))

    @torch.no_grad()
    def draw_styles(self, seeds: Sequence[int], truncation: tuple[float, float]) -> Tensor:
        """Draw truncated styles (N, 512), one for each seed.

        Noise and truncation factor come from numpy's generator, as in
        `benchmarks/calibrate_recognizers.py`, so seeds name the same faces there and here.
        """
        draws = [np.random.default_rng(int(seed)) for seed in seeds]
        noise = np.stack([draw.standard_normal((1, STYLE_WIDTH)).astype(np.float32)[0] for draw in draws])
        factors = torch.tensor([[draw.uniform(*truncation)] for draw in draws], dtype=torch.float32)
        mean = self.mean_style
        return mean + factors.to(mean) * (self.styles(torch.from_numpy(noise).to(mean)) - mean)


@torch.no_grad()
def read_generator(folder: Path) -> Generator:
    """Read the package's files MappingNetwork and SynthesisNetwork (.xml and .bin), float32."""
    generator = Generator()
    mapping, synthesis = (_constants(folder / f"{part}Network") for part in PARTS)
    shapes = {(STYLE_WIDTH, STYLE_WIDTH), (STYLE_WIDTH,)}
    found = [value for value in mapping if tuple(value.shape) in shapes]
    for layer, weight, bias in zip(generator.mapping, found[::2], found[1::2], strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    values = (value for value in synthesis if not _is_fixed(value))
    generator.head_style.load_state_dict(_read_style(values, scaled=True))
    for block in reversed(generator.blocks):
        block.style.load_state_dict(_read_style(values, scaled=True))
        if block.band_style is not None:
            block.band_style.load_state_dict(_read_style(values, scaled=False))
    generator.start.copy_(next(values))
    for block in generator.blocks:
        if block.depthwise is not None:
            block.depthwise.weight.copy_(next(values).flatten(0, 1))
        block.mix.weight.copy_(next(values))
        block.noise.copy_(next(values))
        block.mix.bias.copy_(next(values).flatten())
    generator.head.weight.copy_(next(values))
    generator.head.bias.copy_(next(values).flatten())
    for before, after in itertools.pairwise(generator.blocks):
        if after.band_style is not None:
            for layer in (before.mix, after.band_style):
                _sort_bands(layer)
    _sort_bands(generator.head)
    noise = np.random.default_rng(0).standard_normal((MEAN_SAMPLES, STYLE_WIDTH)).astype(np.float32)
    generator.mean_style.copy_(generator.styles(torch.from_numpy(noise)).mean(0))
    return generator


def pack_generator(folder: Path, path: Path) -> None:
    """Write the package's generator as one safetensors file of half the size (16 bits)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half() for name, value in read_generator(folder).state_dict().items()}, path)


def load_generator(path: Path) -> Generator:
    """Load what `pack_generator` wrote, or read the package's folder itself.

    Raises:
        SystemExit: There is nothing.
    """
    if path.is_dir():
        return read_generator(path)
    if not path.is_file():
        raise SystemExit(f"Expected the generator at {path}, found nothing. See 'Data' in training/README.md.")
    generator = Generator()
    with safe_open(path, "pt") as file:
        generator.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    return generator


def _read_style(values: Iterator[Tensor], scaled: bool) -> dict[str, Tensor]:
    weight, bias = next(values), next(values).flatten()
    scale = next(values).item() if scaled else 1.0
    return {"weight": weight * scale, "bias": bias * scale}


def _sort_bands(layer: nn.Linear | nn.Conv2d) -> None:
    """Reorder a layer's outputs: the package keeps the three bands of differences channel by channel."""
    count = layer.weight.shape[0] // 4
    order = torch.cat([torch.arange(count), count + torch.arange(3 * count).view(count, 3).T.flatten()])
    layer.weight.copy_(layer.weight[order])
    layer.bias.copy_(layer.bias[order])


def _is_fixed(value: Tensor) -> bool:
    """Whether a constant is one of every network of this kind: a slope, or a tile of the wavelet."""
    return tuple(value.shape) == (1,) or (value.ndim == 5 and tuple(value.shape[3:]) in ((2, 1), (1, 2)))


def _constants(stem: Path) -> list[Tensor]:
    """Return the floating constants of an OpenVINO file, by ascending number."""
    root = ElementTree.parse(stem.with_suffix(".xml")).getroot()  # noqa: S314 - the user's own file of a known package
    content = stem.with_suffix(".bin").read_bytes()
    layers = [layer for layer in root.iterfind("layers/layer") if layer.get("type") == "Const"]
    found = []
    for layer in sorted(layers, key=lambda layer: int(layer.get("id"))):
        data = layer.find("data").attrib
        if data["element_type"] == "f32":
            shape = [int(side) for side in data["shape"].split(",") if side.strip()]
            values = np.frombuffer(content, np.float32, int(np.prod(shape)), int(data["offset"]))
            found.append(torch.from_numpy(values.reshape(shape).copy()))
    return found
