"""All settings of a training run, read from one TOML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


@dataclass(frozen=True)
class RunSettings:
    """Where and how everything runs.

    Attributes:
        folder: Holds pictures, checkpoints, logs and the exported file.
        seed: Every random number follows from it and from the number of the step.
        device: "cpu", "cuda" or "auto".
        precision: "fp32" or "bf16" (autocast; weights stay float32).
        compiled: Compile the networks (a minute at the start; pays on a GPU).
        save_every_s: Seconds between checkpoints.
        log_every: Steps between lines of the log.
    """

    folder: str = ".cache/training/run"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    compiled: bool = False
    save_every_s: float = 120.0
    log_every: int = 20

    def torch_device(self) -> torch.device:
        """Return the device to compute on."""
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        return torch.device(chosen)


@dataclass(frozen=True)
class DataSettings:
    """The pictures: faces of nobody, drawn from a generator.

    Attributes:
        generator: Packed generator (see `python -m training pack`), or the folder with its
            OpenVINO files; "synthetic" draws coloured ovals, for tests.
        count, first_seed: Faces, and the seed of the first; the others follow.
        truncation: Bounds of the uniform truncation factor.
        side: Side in pixels at which pictures are kept.
        held_out: First faces of the pool, never trained on.
        batch: Faces drawn at once.
        in_memory: Draw at the start of every command and keep on the device (GPU), instead
            of in a file (CPU).
        zoom: Largest part of a side that a random crop cuts away.
        colour: Strength of random changes of brightness, contrast and saturation.
    """

    generator: str = ".cache/training/generator.safetensors"
    count: int = 4000
    first_seed: int = 20000
    truncation: tuple[float, float] = (0.6, 1.0)
    side: int = 256
    held_out: int = 50
    batch: int = 1
    in_memory: bool = False
    zoom: float = 0.1
    colour: float = 0.2


@dataclass(frozen=True)
class AutoencoderSettings:
    """The autoencoder and its losses.

    Attributes:
        resolution: Side of the pictures it is trained on.
        start_from: Model file to start from; "" starts from random weights.
        trainable: "all", or "decoder" to keep the encoder and so the latents.
        patch, channels, encoder_blocks, decoder_blocks, latent_channels: See
            `faceprivacy_core.builtin.autoencoder.AutoencoderConfig`. With `start_from` only
            `decoder_blocks` counts; added blocks begin as the identity.
        l1, perceptual, identity, adversarial: Weights of the losses; 0 leaves one out.
        perceptual_scales: Enlargements at which the perceptual loss looks, in turn.
        adversarial_from: Step at which the adversarial loss begins (its critic starts at once).
        latent_noise: Largest standard deviation of noise added to half of the latents.
        ema: Decay of the average of the weights.
    """

    resolution: int = 256
    start_from: str = ""
    trainable: str = "all"
    patch: int = 4
    channels: tuple[int, int] = (96, 192)
    encoder_blocks: tuple[int, int] = (1, 2)
    decoder_blocks: tuple[int, int] = (3, 4)
    latent_channels: int = 4
    steps: int = 20000
    batch: int = 16
    learning_rate: float = 2e-4
    warm_up: int = 100
    l1: float = 1.0
    perceptual: float = 1.0
    perceptual_scales: tuple[int, ...] = (1,)
    identity: float = 0.0
    adversarial: float = 0.0
    adversarial_from: int = 0
    critic_channels: int = 32
    critic_learning_rate: float = 2e-4
    latent_noise: float = 0.1
    ema: float = 0.999


@dataclass(frozen=True)
class DiffusionSettings:
    """The UNet on the latents, and its image tokens.

    Attributes:
        start_from: Model file to start from; "" starts from random weights.
        channels, layers, attention: Width of every level, residual blocks a level, and on
            which levels there is attention.
        head_dim: Attention heads of a level, as diffusers counts them.
        norm_groups: Groups of every GroupNorm.
        token_grids: Sides of the grids over which features are averaged to tokens.
        stages: Stages of the image tokens along the noise; 1 gives one set for all.
        drop_condition: Part of the samples trained with the empty condition.
        structure: Part of the samples whose timestep is drawn in proportion to the noise's share of the
            variance, 1 / (1 + SNR), the rest evenly; more of them gives more of the training to what a
            face is made of and less to its finest grain.
        views: Differently cut and coloured versions of every face whose latents are kept.
        sampling_steps: Steps of the samples that are drawn to look at.
    """

    start_from: str = ""
    channels: tuple[int, ...] = (160, 320, 320)
    layers: int = 1
    attention: tuple[bool, ...] = (False, True, True)
    head_dim: int = 8
    norm_groups: int = 32
    token_grids: tuple[int, ...] = (1, 2, 4)
    token_width: int = 768
    stages: int = 1
    drop_condition: float = 0.3
    structure: float = 0.0
    views: int = 4
    sampling_steps: int = 50
    steps: int = 20000
    batch: int = 64
    learning_rate: float = 3e-4
    warm_up: int = 500
    ema: float = 0.9995


@dataclass(frozen=True)
class ExportSettings:
    """The file that is shipped.

    Attributes:
        name: Name in its header.
        eight_bit: Store matrices and kernels of at least `eight_bit_from` values in 8 bits.
    """

    name: str = "face-256"
    eight_bit: bool = True
    eight_bit_from: int = 1024


@dataclass(frozen=True)
class Settings:
    """One file of settings."""

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    export: ExportSettings = field(default_factory=ExportSettings)

    @property
    def folder(self) -> Path:
        return Path(self.run.folder)


def load_settings(path: Path, changes: Sequence[str] = ()) -> Settings:
    """Read settings.

    Args:
        path: TOML file; what it does not name keeps its default.
        changes: Such as "autoencoder.steps=500", values in TOML's spelling; they win.

    Raises:
        ValueError: A section or name is unknown.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        name, _, value = change.partition("=")
        section, _, key = name.partition(".")
        content.setdefault(section, {})[key] = tomllib.loads(f"value = {value}")["value"]
    return build_settings(content)


def build_settings(content: dict[str, dict[str, Any]]) -> Settings:
    """Make settings of nested dictionaries.

    Raises:
        ValueError: A section or name is unknown.
    """
    sections = {section.name: section.default_factory for section in dataclasses.fields(Settings)}
    unknown = [name for name in content if name not in sections]
    for name, values in content.items():
        known = {entry.name for entry in dataclasses.fields(sections[name])} if name in sections else set()
        unknown += [f"{name}.{key}" for key in values if key not in known and name in sections]
    if unknown:
        raise ValueError(f"Expected the settings of training/settings.py, got unknown ones: {', '.join(unknown)}.")
    made = {name: sections[name](**{key: _frozen(value) for key, value in values.items()}) for name, values in content.items()}
    return Settings(**made)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
