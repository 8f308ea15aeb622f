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
        sharpen: Largest amount of the unsharp mask over half of the pictures; photographs are sharper than drawn faces.
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
    sharpen: float = 0.0


@dataclass(frozen=True)
class AutoencoderSettings:
    """The autoencoder and its losses.

    Attributes:
        side, latent_channels, patch, channels, encoder_blocks, style_channels, decoder_channels, head_channels:
            See `faceprivacy_core.builtin.autoencoder.AutoencoderConfig`.
        start_from: Model file to start from; "" starts from random weights and the generator's blocks.
        trainable: "all", or "decoder" to keep the encoder and so the latents.
        prior_steps: First steps, in which the encoder learns the components of the generator's known
            features and the head its pictures, the generator's blocks staying as they are.
        plain: Part of a batch that are the generator's pictures as they are, whose features are known; the
            rest is cut, mirrored and recoloured.
        l1, coarse, perceptual, identity, adversarial: Weights of the losses; 0 leaves one out. `coarse` is the
            L1 of squares of 4 and 8 pixels.
        known: Weight of the distance of an encoded plain picture to its known features.
        adversarial_from: Step at which the adversarial loss begins (its critic starts 100 steps before).
        latent_noise: Largest standard deviation of noise added to half of the latents.
        ema: Decay of the average of the weights.
    """

    side: int = 256
    latent_channels: int = 32
    patch: int = 4
    channels: tuple[int, ...] = (96, 160, 256)
    encoder_blocks: tuple[int, ...] = (2, 2, 3)
    style_channels: tuple[int, int, int] = (96, 160, 512)
    decoder_channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 256)
    head_channels: int = 96
    start_from: str = ""
    trainable: str = "all"
    prior_steps: int = 0
    plain: float = 0.5
    steps: int = 20000
    batch: int = 16
    learning_rate: float = 2e-4
    warm_up: int = 100
    l1: float = 1.0
    coarse: float = 0.5
    perceptual: float = 1.0
    identity: float = 0.0
    known: float = 0.0
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
        source: "features" trains on the latents of the generator's known features, which need no picture and
            no trained encoder; "encoder" on encoded pictures; "both" on both.
        known_faces: Faces of which only the features are drawn.
        channels, layers, attention: Width of every level, residual blocks a level, and on
            which levels there is attention.
        head_dim: Attention heads of a level, as diffusers counts them.
        norm_groups: Groups of every GroupNorm.
        token_channels: Width of the features that tokens are made of.
        token_grids: Sides of the grids over which features are averaged to tokens.
        drop_condition: Part of the samples trained with the empty condition.
        views: Differently cut and coloured versions of every picture that are encoded.
        sampling_steps: Steps of the samples that are drawn to look at.
    """

    start_from: str = ""
    source: str = "both"
    known_faces: int = 0
    channels: tuple[int, ...] = (96, 192)
    layers: int = 1
    attention: tuple[bool, ...] = (False, True)
    head_dim: int = 8
    norm_groups: int = 32
    token_channels: int = 256
    token_grids: tuple[int, ...] = (1, 2, 4)
    token_width: int = 768
    drop_condition: float = 0.35
    views: int = 4
    sampling_steps: int = 50
    steps: int = 20000
    batch: int = 32
    learning_rate: float = 6e-4
    warm_up: int = 200
    ema: float = 0.999


@dataclass(frozen=True)
class DetailSettings:
    """The detail head, which enlarges crops.

    Attributes:
        model: Model file whose autoencoder it belongs to.
        widths, hidden: See `faceprivacy_core.builtin.detail.DetailConfig`.
        l1, perceptual, adversarial: Weights of the losses; 0 leaves one out.
        kept: Weight of the L1 between mean colours of squares of a crop and of what was enlarged.
        adversarial_from, critic_channels, critic_learning_rate, latent_noise, ema: See `AutoencoderSettings`.
    """

    model: str = "faceprivacy_core/builtin/face_model.safetensors"
    widths: tuple[int, int] = (128, 128)
    hidden: int = 48
    steps: int = 1500
    batch: int = 4
    learning_rate: float = 5e-4
    warm_up: int = 50
    l1: float = 1.0
    kept: float = 1.0
    perceptual: float = 1.0
    adversarial: float = 0.1
    adversarial_from: int = 200
    critic_channels: int = 32
    critic_learning_rate: float = 2e-4
    latent_noise: float = 0.1
    ema: float = 0.995


@dataclass(frozen=True)
class ExportSettings:
    """The file that is shipped.

    Attributes:
        name: Name in its header.
        donors: Add the bank of donors; needs the face models.
        eight_bit: Store matrices and kernels of at least `eight_bit_from` values in 8 bits.
        sixteen_bit: Beginnings of the names of those that stay in 16 bits, because they are small and all
            passes through them.
    """

    name: str = "face-256"
    donors: bool = False
    eight_bit: bool = True
    eight_bit_from: int = 1024
    sixteen_bit: tuple[str, ...] = (
        "unet.conv_in", "unet.conv_out", "autoencoder.enc.1.", "autoencoder.dec.head",
    )  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """One file of settings."""

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    detail: DetailSettings = field(default_factory=DetailSettings)
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
