"""The built-in face model: one file, a UNet, an autoencoder and an image-token head."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..diffusion.backends.diffusers import DiffusersDenoiser
from ..diffusion.schedules import NoiseSchedule
from ..errors import ModelFileError
from .autoencoder import AutoencoderConfig, FaceAutoencoder
from .donors import DonorBank, build_donors
from .tokens import TokenConfig, TokenHead

FORMAT = "faceprivacy-face-model"
FORMAT_VERSION = "2"
"""Version 1 held a model for crops of 128 px."""
DEFAULT_FILE = Path(__file__).parent / "face_model.safetensors"

_NEEDED = frozenset(("name", "resolution", "unet", "autoencoder", "tokens", "schedule", "prediction"))
_DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, RuntimeError, TypeError, ValueError)
"""What JSON and torch raise for a header that says something else."""

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


@dataclass(frozen=True, eq=False)
class FaceModelFile:
    """Contents of a built-in model file, weights already float32.

    Attributes:
        config: Header: `name`, `resolution`, `unet` (diffusers configuration),
            `autoencoder`, `tokens`, `schedule`, `prediction`, `preview` (RGB factors), `donors`.
        unet, autoencoder, tokens, donors: State dictionaries.
    """

    config: dict[str, Any]
    unet: dict[str, Tensor]
    autoencoder: dict[str, Tensor]
    tokens: dict[str, Tensor]
    donors: dict[str, Tensor]

    @property
    def autoencoder_config(self) -> AutoencoderConfig:
        """Shape of the autoencoder.

        Raises:
            ModelFileError: The header describes none that can be built.
        """
        return _config(AutoencoderConfig, self.config.get("autoencoder"), "autoencoder")


@dataclass(frozen=True, eq=False)
class FaceEncoder:
    """The part of the built-in model that turns pictures into conditioning.

    Attributes:
        autoencoder: Images in [-1, 1] to latents of unit variance.
        token_head: Latents to tokens; `token_head.null` is the empty condition.
        resolution: Side in pixels of the square crops the model was trained on.
        model_name: Name of the model the tokens are for.
        file: What the bank of donors is built from when it is asked for.
    """

    autoencoder: FaceAutoencoder
    token_head: TokenHead
    resolution: int
    model_name: str
    file: FaceModelFile = field(repr=False)

    @cached_property
    def donors(self) -> DonorBank:
        """Faces of nobody that lend their look.

        Raises:
            ModelFileError: The file has none.
        """
        return build_donors(self.file.config.get("donors", {}), self.file.donors)

    def encode_tokens(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] to tokens (B, L, 768)."""
        return self.token_head(self.autoencoder.encode(images * 2.0 - 1.0))

    def empty_tokens(self) -> Tensor:
        """Return the empty condition, (1, L, 768)."""
        return self.token_head.null[None]


@dataclass(frozen=True, eq=False)
class FaceModel(FaceEncoder):
    """The built-in model, ready to run in the core.

    Attributes:
        denoiser: UNet behind the denoiser contract; its conditioning is tokens (B, L, 768).
    """

    denoiser: DiffusersDenoiser

    def to(self, device: torch.device | str) -> FaceModel:
        """Move all networks in place and return the model."""
        for module in (self.denoiser.unet, self.autoencoder, self.token_head):
            module.to(device)
        return self


def read_face_model_file(path: Path = DEFAULT_FILE) -> FaceModelFile:
    """Read a built-in model file.

    Matrices stored as int8 with a `<name>.scale` per output channel become float32.

    Raises:
        ModelFileError: The file is missing, damaged, or of another format.
    """
    if not path.is_file():
        raise ModelFileError(f"Expected the built-in face model at {path}; it is missing. Fetch the repository again.")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is not a readable safetensors file ({error}). Fetch it again.") from error
    if header.get("format") == FORMAT and header.get("version") == "1":
        raise ModelFileError(
            f"Expected the built-in face model for crops of 256 px, got {path}, that for 128 px of an earlier release. Use "
            "the file of this release; inversions and keyed pictures made with the earlier one need the earlier release."
        )
    if header.get("format") != FORMAT or header.get("version") != FORMAT_VERSION:
        raise ModelFileError(
            f"Expected a {FORMAT} file of version {FORMAT_VERSION}, got format {header.get('format')!r}, "
            f"version {header.get('version')!r} in {path}."
        )
    try:
        config, weights = json.loads(header["config"]), _dequantise(tensors)
        missing = sorted(_NEEDED - set(config))
    except _DAMAGE as error:
        raise ModelFileError(f"Expected a header of JSON and weights with their scales in {path}, got others.") from error
    if missing or not isinstance(config, dict):
        raise ModelFileError(f"Expected a header with {', '.join(missing) or 'names'} in {path}, got one without.")
    parts = {part: _with_prefix(weights, part + ".") for part in ("unet", "autoencoder", "tokens", "donors")}
    return FaceModelFile(config, **parts)


def load_face_model(path: Path = DEFAULT_FILE) -> FaceModel:
    """Load the built-in model on the CPU in float32, frozen, in evaluation mode.

    Raises:
        ModelFileError: See `read_face_model_file`; also when weights and header disagree.
    """
    from diffusers import UNet2DConditionModel  # seconds to load, and the host's nodes and many commands need it not

    file = read_face_model_file(path)
    encoder = build_encoder(file)
    with torch.inference_mode(False):
        unet = _filled(UNet2DConditionModel(**file.config["unet"]), file.unet, "UNet")
    schedule = NoiseSchedule.scaled_linear(**file.config["schedule"])
    denoiser = DiffusersDenoiser(unet, schedule, file.config["prediction"])
    return FaceModel(encoder.autoencoder, encoder.token_head, encoder.resolution, encoder.model_name, file, denoiser)


def build_encoder(file: FaceModelFile) -> FaceEncoder:
    """Build the encoder of a file."""
    with torch.inference_mode(False):
        networks = build_autoencoder(file), build_token_head(file)
    return FaceEncoder(*networks, file.config["resolution"], file.config["name"], file)


def build_autoencoder(file: FaceModelFile) -> FaceAutoencoder:
    """Build the autoencoder of a file."""
    return _filled(_built(FaceAutoencoder, file.autoencoder_config, "autoencoder"), file.autoencoder, "autoencoder")


def build_token_head(file: FaceModelFile) -> TokenHead:
    """Build the token head of a file."""
    config = _config(TokenConfig, file.config.get("tokens"), "token head")
    return _filled(_built(TokenHead, config, "token head"), file.tokens, "token head")


def _config(kind: type[C], values: object, part: str) -> C:
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except (AttributeError, TypeError) as error:
        raise ModelFileError(f"Expected a header with the {part} of this release: {error}. Fetch the file again.") from error


def _built(kind: Callable[[C], M], config: C, part: str) -> M:
    try:
        return kind(config)
    except _DAMAGE as error:
        raise ModelFileError(f"Expected a header from which the {part} can be built, got another: {error}") from error


def _filled(module: M, state: dict[str, Tensor], part: str) -> M:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelFileError(f"The {part} weights do not fit the file's own header: {error}") from error
    return module.eval().requires_grad_(False)


def _dequantise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(".scale"):
            continue
        scale = tensors.get(name + ".scale")
        weight = tensor.float()
        weights[name] = weight if scale is None else weight * scale.float().view(-1, *[1] * (weight.ndim - 1))
    return weights


def _with_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
