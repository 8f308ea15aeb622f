"""Reading a checkpoint: a single safetensors file, or a folder as diffusers saves it. Nothing is fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...errors import InputError, ModelFileError, UnsupportedModelError
from ..schedules import NoiseSchedule, alphas_cumprod_to_sigmas, scaled_linear_alphas_cumprod
from .checkpoint import Checkpoint
from .diffusers import DiffusersDenoiser, Prediction
from .families import BY_TYPE, FLOW, FLUX, FOLDERS_ONLY, SD1, SD2, SD3, SDXL, Family
from .transformers import FluxNetwork, Sd3Network
from .words import TextEncoder, Words, last_alone, without_t5

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_ALPHA = 2.0**-24
"""Of a schedule that ends in pure noise, whose last noise level would be infinite."""
WANTED = "an SD 1.x, SD 2.x or SDXL checkpoint as one .safetensors file, or one of these, SD3 or Flux as diffusers' folder"
FLOW_STEPS = 1000
Tensors = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


def load_checkpoint(
    path: Path,
    *,
    vae: Path | None = None,
    dtype: str = "fp32",
    device: torch.device | str = "cpu",
    resolution: int | None = None,
    prediction: str | None = None,
    family: Family | None = None,
    at_once: int = 1,
) -> Checkpoint:
    """Load a checkpoint, frozen, in evaluation mode.

    Args:
        path: One .safetensors file, or a folder as diffusers saves it.
        vae: An autoencoder to take instead of the checkpoint's own, as a file or a folder.
        dtype: "fp32", "bf16" or "fp16", of UNet and text encoders.
        device: Where it computes.
        resolution: Side of the crops, pixels; None takes that of the family.
        prediction: `epsilon` or `v_prediction`; None takes what file or family say.
        family: Shapes of a single file of another shape than published; None asks diffusers.
        at_once: See `Checkpoint`.

    Raises:
        InputError: There is no such file, or an argument is out of range.
        ModelFileError: A file cannot be read, or is not whole.
        UnsupportedModelError: The checkpoint is of another family.
    """
    if dtype not in DTYPES:
        raise InputError(f"Expected a dtype of {', '.join(DTYPES)}, got {dtype!r}.")
    if prediction not in (None, Prediction.EPSILON.value, Prediction.V.value):
        raise InputError(f"Expected a prediction of epsilon or v_prediction, got {prediction!r}.")
    if not path.exists():
        raise InputError(f"Expected {WANTED}, found nothing at {path}. Check the path.")
    try:
        with torch.inference_mode(False):
            read = _read_folder if path.is_dir() else _read_file
            unet, found_vae, words, schedule, predicts, kind = read(path, family, DTYPES[dtype])
            network = found_vae if vae is None else _read_vae(vae, kind)
    except ImportError as error:
        raise ModelFileError(
            f"Expected the package transformers, which reads the text encoder of a checkpoint, got: {error}. "
            'Run: python -m pip install "face-privacy-diffusion[checkpoints]" (or: pip install transformers).'
        ) from error
    if network is None:
        raise ModelFileError(f"Expected a VAE in {path.name}, found none. Give one with --vae FILE (in Python: vae=...).")
    if unet.config.in_channels != network.config.latent_channels:
        raise UnsupportedModelError(
            f"Expected a model whose UNet takes the {network.config.latent_channels} channels of its VAE, got one for "
            f"{unet.config.in_channels}, as inpainting and upscaling models have. Use the plain checkpoint of the family."
        )
    time_ids = None
    side = resolution or _resolution(unet, network, kind)
    if unet.config.addition_embed_type == "text_time":
        time_ids = torch.tensor([[side, side, 0, 0, side, side]])
    denoiser = DiffusersDenoiser(unet, schedule, prediction or predicts, time_ids)
    return Checkpoint(path.stem, kind.name, side, denoiser, network.float(), words, at_once).to(device)


Read = tuple[Any, Any, Words, NoiseSchedule, str, Family]


def _read_file(path: Path, family: Family | None, dtype: torch.dtype) -> Read:
    """Read a single file; only its weights, for shapes are published and the empty prompt needs no tokenizer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as convert
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tensors = _tensors(path)
    kind = family or _family_of(path, convert.infer_diffusers_model_type(tensors))
    if not any(name.startswith("model.diffusion_model.") for name in tensors):
        raise ModelFileError(f"Expected {WANTED}, got {path.name} without weights of a UNet. Is it a LoRA or a part of one?")
    unet = _filled(
        lambda: UNet2DConditionModel(**kind.unet), lambda net: convert.convert_ldm_unet_checkpoint(tensors, net.config), "UNet"
    ).to(dtype)  # fmt: skip
    has_vae = any(name.startswith("first_stage_model.") for name in tensors)
    vae = _filled(lambda: AutoencoderKL(**kind.vae), lambda net: _vae_weights(tensors, net), "VAE") if has_vae else None
    encoders = {}
    for name, shape in kind.text.items():
        network = (CLIPTextModelWithProjection if shape.pooled else CLIPTextModel)(CLIPTextConfig(**shape.config))
        state = _text_weights(tensors, name, network)
        if not state:
            raise ModelFileError(
                f"Expected the text encoder {name} in {path.name}, found none. Use the whole checkpoint, or a folder as "
                "diffusers saves it."
            )
        encoders[name] = TextEncoder(_loaded(network, state, f"text encoder {name}").to(dtype), shape)
    prediction = Prediction.V.value if "v_pred" in tensors else kind.prediction
    schedule = _schedule(scaled_linear_alphas_cumprod(), zero_end="ztsnr" in tensors)
    return unet, vae, Words(encoders), schedule, prediction, kind


def _read_folder(path: Path, family: Family | None, dtype: torch.dtype) -> Read:
    """Read a folder as diffusers saves it; of its files those in safetensors."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    index = path / "model_index.json"
    if not index.is_file():
        raise InputError(f"Expected {WANTED}, got the folder {path} without a model_index.json. Give the folder that holds it.")
    kind = family or _family_of_pipeline(path, json.loads(index.read_text(encoding="utf-8")).get("_class_name", ""))
    if kind in (SD3, FLUX):
        return _read_flow(path, kind, dtype)
    unet = _part(UNet2DConditionModel, path, "unet", dtype)
    vae = _part(AutoencoderKL, path, "vae", torch.float32) if (path / "vae").is_dir() else None
    folders = {"l": "text_encoder", "h": "text_encoder", "g": "text_encoder_2"}
    encoders = {}
    for name, shape in kind.text.items():
        cls = CLIPTextModelWithProjection if shape.pooled else CLIPTextModel
        encoders[name] = TextEncoder(_part(cls, path, folders[name], dtype), shape)
    with _readable(path / "scheduler"):
        scheduler = DDIMScheduler.from_pretrained(path, subfolder="scheduler", local_files_only=True)
    schedule = _schedule(scheduler.alphas_cumprod.double(), zero_end=False)
    return unet, vae, Words(encoders), schedule, scheduler.config.prediction_type, kind


def _read_flow(path: Path, kind: Family, dtype: torch.dtype) -> Read:
    """Read a folder of SD3 or Flux; the T5 of SD3 is left out, as its authors allow."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, SD3Transformer2DModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel

    if kind is SD3:
        network = _part(SD3Transformer2DModel, path, "transformer", dtype)
        unet, join = Sd3Network(network), without_t5(network.config.joint_attention_dim)
        parts = {"l": CLIPTextModelWithProjection, "g": CLIPTextModelWithProjection}
    else:
        unet = FluxNetwork(_part(FluxTransformer2DModel, path, "transformer", dtype))
        parts, join = {"l": CLIPTextModel, "t5": T5EncoderModel}, last_alone
    folders = ("text_encoder", "text_encoder_2")
    encoders = {
        name: TextEncoder(_part(cls, path, folder, dtype), kind.text[name])
        for (name, cls), folder in zip(parts.items(), folders, strict=True)
    }
    vae = _part(AutoencoderKL, path, "vae", torch.float32) if (path / "vae").is_dir() else None
    with _readable(path / "scheduler"):
        config = FlowMatchEulerDiscreteScheduler.from_pretrained(path, subfolder="scheduler", local_files_only=True).config
    return unet, vae, Words(encoders, join), _flow_schedule(config), Prediction.FLOW.value, kind


def _flow_schedule(config: Any) -> NoiseSchedule:
    """Return the noise levels of a flow, s / (1 - s), in the middle of its training steps.

    A shift that depends on the size of the picture is that of 512 pixels, about as large as a face gets.
    """
    shift = float(config.shift)
    if config.use_dynamic_shifting:
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        shift = math.exp(config.base_shift + slope * (32 * 32 - config.base_image_seq_len))
    even = (torch.arange(FLOW_STEPS, dtype=torch.float64) + 0.5) / FLOW_STEPS
    s = shift * even / (1.0 + (shift - 1.0) * even)
    return NoiseSchedule(s / (1.0 - s))


def _family_of(path: Path, found: str) -> Family:
    if found in BY_TYPE:
        return BY_TYPE[found]
    raise UnsupportedModelError(_refusal(path, found))


def _family_of_pipeline(path: Path, pipeline: str) -> Family:
    known = {"StableDiffusion3Pipeline": SD3, "FluxPipeline": FLUX}
    if pipeline in known:
        return known[pipeline]
    if pipeline.startswith("StableDiffusionXL"):
        return SDXL
    if pipeline in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"):
        config = json.loads((path / "text_encoder" / "config.json").read_text(encoding="utf-8"))
        return SD2 if config.get("hidden_act") == "gelu" else SD1
    raise UnsupportedModelError(_refusal(path, pipeline))


def _refusal(path: Path, found: str) -> str:
    if found.startswith(FOLDERS_ONLY):
        return f"Expected {WANTED}, got {path.name}, a single file of {found}. Use the folder as diffusers saves it."
    if found.lower().startswith(FLOW):
        return (
            f"Expected {WANTED}, got {path.name} of the family {found}, a flow model, for which no method here has been made "
            "yet. Use a checkpoint of the families above."
        )
    return f"Expected {WANTED}, got {path.name} of the kind {found}. Use the plain text-to-image checkpoint of the family."


def _resolution(unet: Any, vae: Any, kind: Family) -> int:
    size = unet.config.sample_size
    return int(size) * 2 ** (len(vae.config.block_out_channels) - 1) if isinstance(size, int) else kind.resolution


def _schedule(alphas_cumprod: Tensor, *, zero_end: bool) -> NoiseSchedule:
    """Return noise levels; with `zero_end` the signal is rescaled so that the last level is pure noise.

    Source of the rescaling: Lin et al. (2024), algorithm 1.
    """
    if zero_end:
        root = alphas_cumprod.sqrt()
        alphas_cumprod = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return NoiseSchedule(alphas_cumprod_to_sigmas(alphas_cumprod.clamp(min=LEAST_ALPHA)))


def _read_vae(path: Path, kind: Family) -> Any:
    from diffusers import AutoencoderKL

    if path.is_dir():
        return _part(AutoencoderKL, path, "vae" if (path / "vae").is_dir() else "", torch.float32)
    tensors = _tensors(path)
    return _filled(lambda: AutoencoderKL(**kind.vae), lambda net: _vae_weights(tensors, net), f"VAE {path.name}")


def _vae_weights(tensors: Mapping[str, Tensor], network: Any) -> Tensors:
    from diffusers.loaders import single_file_utils as convert

    if set(network.state_dict()) <= set(tensors):
        return {name: tensors[name] for name in network.state_dict()}
    return convert.convert_ldm_vae_checkpoint(dict(tensors), network.config)


def _text_weights(tensors: Mapping[str, Tensor], name: str, network: Any) -> Tensors:
    from diffusers.loaders import single_file_utils as convert

    prefixes = {"l": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")}.get(
        name, ("cond_stage_model.model.", "conditioner.embedders.1.model.")
    )
    for prefix in prefixes:
        some = {key: value for key, value in tensors.items() if key.startswith(prefix)}
        if some and name == "l":
            state = {key.removeprefix(prefix): value for key, value in some.items()}
        elif some:
            state = convert.convert_open_clip_checkpoint(network, some, prefix)
        else:
            continue
        wrapped = any(key.startswith("text_model.") for key in network.state_dict())
        return state if wrapped else {key.removeprefix("text_model."): value for key, value in state.items()}
    return {}


def _tensors(path: Path) -> Tensors:
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise InputError(
            f"Expected {WANTED}, got {path.name}. Files of other kinds can run code when they are opened; convert it first."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"Expected a safetensors file that can be read, got {path} ({error}). Fetch it again.") from error


def _filled(make: Callable[[], M], state: Callable[[M], Tensors], part: str) -> M:
    with torch.device("meta"):
        network = make()
    return _loaded(network, state(network), part, assign=True)


def _loaded(network: M, state: Tensors, part: str, *, assign: bool = False) -> M:
    try:
        missing, _ = network.load_state_dict(state, strict=False, assign=assign)
    except RuntimeError as error:
        raise ModelFileError(f"Expected the {part} of a family this knows, got weights of another shape: {error}") from error
    missing = [name for name in missing if not name.endswith("position_ids")]
    if missing:
        raise ModelFileError(
            f"Expected the whole {part}, got it without {missing[0]} and {len(missing) - 1} more. Use the whole checkpoint."
        )
    return network.eval().requires_grad_(False)


def _part(cls: Any, path: Path, subfolder: str, dtype: torch.dtype) -> Any:
    folder = path / subfolder
    names = [file.name for file in folder.glob("*.safetensors")]
    halves = bool(names) and all(".fp16" in name for name in names)
    with _readable(folder):
        if not names:
            raise OSError("there is no .safetensors file")
        slow = {} if subfolder.startswith("text") else {"low_cpu_mem_usage": False}  # which wants a package more
        network = cls.from_pretrained(
            path, **slow, subfolder=subfolder, local_files_only=True, use_safetensors=True, torch_dtype=dtype,
            variant="fp16" if halves else None,
        )  # fmt: skip
    return network.eval().requires_grad_(False)


class _readable:  # noqa: N801 - used as a context
    """Turn what libraries raise for a folder that is not whole into an error of this package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError | ValueError | RuntimeError | SafetensorError):
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelFileError(
                f"Expected a part of a checkpoint, as diffusers saves it, in {self.folder}, got: {lines[0]} "
                "Fetch the folder again, with its .safetensors files."
            ) from error
