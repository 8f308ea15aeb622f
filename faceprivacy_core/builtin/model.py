"""The built-in face model: one file, a UNet, an autoencoder and an image-token head."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..diffusion.attention import Recording, record_self_attention
from ..diffusion.backends.diffusers import DiffusersDenoiser
from ..diffusion.model import ADVICE, Capability, Condition, Part, Result
from ..diffusion.schedules import TRAIN_STEPS, NoiseSchedule
from ..errors import InputError, ModelFileError, UnsupportedModelError
from ..fingerprints import named_weights
from ..protocols import Denoiser
from .autoencoder import AutoencoderConfig, FaceAutoencoder
from .donors import DonorBank, build_donors, join_banks
from .eight_bits import dequantise
from .extra import EXTRA_FILE, Extra, load_extra
from .filling import DAMAGE, fill
from .tokens import TokenConfig, TokenHead

FORMAT = "faceprivacy-face-model"
FORMAT_VERSION = "2"
"""Version 1 held a model for crops of 128 px."""
DEFAULT_FILE = Path(__file__).parent / "face_model.safetensors"

_NEEDED = frozenset(("name", "resolution", "autoencoder"))
_NEEDED_TO_DRAW = frozenset(("unet", "tokens", "schedule", "prediction"))
C = TypeVar("C")


@dataclass(frozen=True, eq=False)
class FaceModelFile:
    """Contents of a built-in model file, weights already float32.

    Attributes:
        config: Header: `name`, `resolution`, `unet` (diffusers configuration),
            `autoencoder`, `tokens`, `schedule`, `prediction`, `preview` (RGB factors), `donors`.
        unet, autoencoder, tokens, donors: State dictionaries.
        path: Where the file lies.
    """

    config: dict[str, Any]
    unet: dict[str, Tensor]
    autoencoder: dict[str, Tensor]
    tokens: dict[str, Tensor]
    donors: dict[str, Tensor]
    path: Path

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
        """Faces of nobody that lend their look: those of the model's file, then those of the file beside it.

        Raises:
            ModelFileError: The file has none.
        """
        own = build_donors(self.file.config.get("donors", {}), self.file.donors, self.extra.traits)
        return own if self.extra.donors is None else join_banks(own, self.extra.donors)

    @cached_property
    def extra(self) -> Extra:
        """What was trained for this model after it; there is nothing in it where no file for it lies beside the model's.

        Raises:
            ModelFileError: See `extra.load_extra`.
        """
        with torch.inference_mode(False):
            return load_extra(self.file.path.with_name(EXTRA_FILE), self.autoencoder)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.autoencoder.latent_mean.device

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] to latents (B, C, h, w) of unit variance."""
        return self.autoencoder.encode(images * 2.0 - 1.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images, about [0, 1], not clipped."""
        return (self.autoencoder.decode(latents) + 1.0) / 2.0

    @torch.no_grad()
    def enlarge(self, crops: Tensor) -> Tensor:
        """Draw crops (B, 3, S, S) in [0, 1] at twice their side with finer detail, about [0, 1], not clipped.

        They come back on the device and in the type that they came with.

        Raises:
            UnsupportedModelError: There is no detail.
        """
        if self.extra.detail is None:
            raise UnsupportedModelError(
                f"Expected a model {Capability.DETAIL.value}, got {self.model_name}. {ADVICE[Capability.DETAIL]}"
            )
        seen = crops.to(self.autoencoder.latent_mean) * 2.0 - 1.0
        features = self.autoencoder.dec.features(self.autoencoder.enc(seen))
        return ((self.extra.detail.to(self.device)(seen, *features) + 1.0) / 2.0).to(crops)

    def encode_tokens(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] to tokens (B, L, 768)."""
        return self.token_head(self.encode(images))

    def empty_tokens(self) -> Tensor:
        """Return the empty condition, (1, L, 768)."""
        return self.token_head.null[None]


@dataclass(frozen=True, eq=False)
class FaceModel(FaceEncoder):
    """The built-in model, ready to run in the core: a `diffusion.model.LatentModel`.

    Its truncated gradient has a cosine of 0.97 to 0.99 with the full one at the first level (6 generated faces; 0.83 to
    0.95 at three levels), and protects as well: 33 of 36 held-out decisions both (12 faces).

    Attributes:
        denoiser: UNet behind the denoiser contract; its conditioning is tokens (B, L, 768).
        bf16: Let UNet and decoder compute in bfloat16; latents, recorded attention, pictures and losses stay float32. On one
            core with AVX512-BF16 the decoder took 0.6 of its time and the UNet 0.9.
    """

    denoiser: DiffusersDenoiser
    bf16: bool = False
    family = "built-in"
    at_once = 8

    @property
    def name(self) -> str:
        return self.model_name

    @property
    def channels(self) -> int:
        return self.autoencoder.config.latent_channels

    @property
    def factor(self) -> int:
        return self.autoencoder.config.downscale

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    @property
    def empty(self) -> Condition:
        return Condition(self.empty_tokens().detach())

    @property
    def face(self) -> Condition:
        return self.empty

    @property
    def capabilities(self) -> frozenset[Capability]:
        lacking = set() if self.file.donors else {Capability.DONORS}
        lacking |= {Capability.DETAIL} if self.extra.detail is None else set()
        return frozenset(Capability) - lacking - ({Capability.EXACT} if self.bf16 else set())

    def denoise(self, x: Tensor, sigma: Tensor | float, cond: Condition | Tensor) -> Tensor:
        """Denoise x (B, C, h, w)."""
        with self._fast():
            return self.denoiser(x, sigma, cond).to(x)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images, about [0, 1], not clipped."""
        with self._fast():
            decoded = self.autoencoder.decode(latents)
        return (decoded.to(latents) + 1.0) / 2.0

    def read_tokens(self, latents: Tensor) -> dict[str, Tensor]:
        """Read tokens (B, L, 768) off latents."""
        return {"unet": self.token_head(latents)}

    def first_tokens(self, count: int) -> dict[str, Tensor]:
        """Return the first tokens of the empty condition.

        Raises:
            InputError: It has fewer.
        """
        room = len(self.token_head.null)
        if not 1 <= count <= room:
            raise InputError(f"Expected 1 to {room} tokens per stage for the built-in face model, got {count}.")
        return {"unet": self.token_head.null[:count].detach().clone()}

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Hand tokens on: they go straight into cross-attention."""
        return Condition(tokens["unet"])

    def record(self) -> AbstractContextManager[Recording]:
        """Open a recording of the UNet's self-attention."""
        return record_self_attention(self.denoiser.unet)

    def run(self, job: Callable[[Denoiser], Result], shape: Sequence[int]) -> Result:
        """Run a job; there is nothing to prepare."""
        return job(self.denoise)

    def weights(self, part: Part) -> list[tuple[str, Tensor]]:
        """Return the weights of a part; it has no text encoder."""
        networks = {Part.UNET: self.denoiser.unet, Part.VAE: self.autoencoder}
        return named_weights(networks[part]) if part in networks else []

    def in_bfloat16(self) -> FaceModel:
        """Return the model computing in bfloat16, with its weights laid out channels-last, which changes no value."""
        for network in (self.denoiser.unet, self.autoencoder):
            network.to(memory_format=torch.channels_last)
        return replace(self, bf16=True)

    def _fast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

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
        with torch.inference_mode(False), safe_open(path, "pt") as file:
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
        with torch.inference_mode(False):
            config, weights = json.loads(header["config"]), dequantise(tensors)
        missing = sorted(_NEEDED - set(config))
    except DAMAGE as error:
        raise ModelFileError(f"Expected a header of JSON and weights with their scales in {path}, got others.") from error
    if missing or not isinstance(config, dict):
        raise ModelFileError(f"Expected a header with {', '.join(missing) or 'names'} in {path}, got one without.")
    parts = {part: _with_prefix(weights, part + ".") for part in ("unet", "autoencoder", "tokens", "donors")}
    return FaceModelFile(config, **parts, path=path)


def check_draws(file: FaceModelFile) -> None:
    """Make sure that a file describes more than an autoencoder; ModelFileError otherwise."""
    missing = sorted(_NEEDED_TO_DRAW - set(file.config))
    if missing:
        raise ModelFileError(f"Expected a model file whose header has {', '.join(missing)}, too, got an autoencoder alone.")


def load_face_model(path: Path = DEFAULT_FILE) -> FaceModel:
    """Load the built-in model on the CPU in float32, frozen, in evaluation mode.

    Raises:
        ModelFileError: See `read_face_model_file`; also when weights and header disagree.
    """
    from diffusers import UNet2DConditionModel  # seconds to load, and the host's nodes and many commands need it not

    file = read_face_model_file(path)
    encoder = build_encoder(file)
    check_draws(file)
    unet = fill(lambda: UNet2DConditionModel(**file.config["unet"]), file.unet, "UNet")
    denoiser = DiffusersDenoiser(unet, _schedule(file.config["schedule"]), file.config["prediction"])
    return FaceModel(encoder.autoencoder, encoder.token_head, encoder.resolution, encoder.model_name, file, denoiser)


def build_encoder(file: FaceModelFile) -> FaceEncoder:
    """Build the encoder of a file."""
    autoencoder, resolution, name = build_autoencoder(file), file.config["resolution"], file.config["name"]
    if resolution != autoencoder.config.side or not isinstance(name, str):
        raise ModelFileError(f"Expected a header with the side of the crops and a name, got {resolution!r} and {name!r}.")
    return FaceEncoder(autoencoder, build_token_head(file), resolution, name, file)


def build_autoencoder(file: FaceModelFile) -> FaceAutoencoder:
    """Build the autoencoder of a file."""
    config = file.autoencoder_config
    return fill(lambda: FaceAutoencoder(config), file.autoencoder, "autoencoder")


def build_token_head(file: FaceModelFile) -> TokenHead:
    """Build the token head of a file."""
    config = _config(TokenConfig, file.config.get("tokens"), "token head")
    return fill(lambda: TokenHead(config), file.tokens, "token head")


def _config(kind: type[C], values: object, part: str) -> C:
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except (AttributeError, TypeError) as error:
        raise ModelFileError(f"Expected a header with the {part} of this release: {error}. Fetch the file again.") from error


def _schedule(values: object) -> NoiseSchedule:
    try:
        if values["num_steps"] != TRAIN_STEPS:
            raise ValueError(f"{values['num_steps']} steps")
        return NoiseSchedule.scaled_linear(**values)
    except DAMAGE as error:
        raise ModelFileError(f"Expected a header with a schedule of {TRAIN_STEPS} steps, got another: {error}") from error


def _with_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}
