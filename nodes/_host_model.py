"""MODEL, VAE and CONDITIONING of the host as the core's `LatentModel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import Tensor, nn

from ..faceprivacy_core.diffusion.attention import Maps, Recording
from ..faceprivacy_core.diffusion.checkpointing import checkpointed_decode
from ..faceprivacy_core.diffusion.model import ADVICE, Capability, Condition, Part, Result
from ..faceprivacy_core.diffusion.schedules import NoiseSchedule
from ..faceprivacy_core.errors import InputError, UnsupportedModelError
from ..faceprivacy_core.protocols import Denoiser
from . import _host
from ._host_gradients import GradientModel
from ._host_levels import levels_of
from ._host_tokens import TokenSpace, UnetTokens


@dataclass(frozen=True, eq=False)
class HostModel:
    """The core's `diffusion.model.LatentModel` on objects of the host; of use inside `with_model` alone.

    Attributes:
        name, family, resolution, channels, device, schedule, empty, capabilities: See `LatentModel`.
        denoise: Of the running sampler.
        vae: Its VAE.
        low_memory: Compute the VAE's blocks again for the gradient.
        record: Opens a recording of the self-attention.
        space: Where tokens live.
    """

    name: str
    family: str
    resolution: int
    channels: int
    device: torch.device
    schedule: NoiseSchedule
    empty: Condition
    denoise: Denoiser
    vae: _host.ExactVae
    low_memory: bool
    record: Callable[[], AbstractContextManager[Recording]]
    space: TokenSpace
    capabilities: frozenset[Capability]
    at_once = 8

    @property
    def factor(self) -> int:
        return int(self.vae.downscale)

    @property
    def face(self) -> Condition:
        return self.empty

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, S, S) in [0, 1] without a gradient."""
        with torch.no_grad():
            return self.vae.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images, about [0, 1], not clipped."""
        if self.low_memory:
            return checkpointed_decode(self.vae.decode_open, self.vae.network)(latents)
        return self.vae.decode_open(latents)

    def read_tokens(self, latents: Tensor) -> dict[str, Tensor]:
        """Refuse: the host reads tokens with a node of its own."""
        raise UnsupportedModelError(f"Expected tokens of MSI Inversion, got none. {ADVICE[Capability.IMAGE_TOKENS]}")

    def first_tokens(self, count: int) -> dict[str, Tensor]:
        """Return tokens to begin learning with."""
        return self.space.start(count)

    def condition(self, tokens: Mapping[str, Tensor]) -> Condition:
        """Turn tokens (B, n, D) by encoder into the condition of a batch of B."""
        return self.space.condition(tokens)

    def run(self, job: Callable[[Denoiser], Result], shape: Sequence[int]) -> Result:
        """Run a job; the sampler is running already."""
        return job(self.denoise)

    def weights(self, part: Part) -> Iterable[tuple[str, Tensor]]:
        """Refuse: fingerprints of the host's objects count patches, too, see `_host_fingerprints`."""
        raise NotImplementedError


def with_model(
    job: Callable[[HostModel], Result],
    model: comfy.model_patcher.ModelPatcher,
    vae: comfy.sd.VAE,
    positive: list[Any],
    size: int,
    num_faces: int,
    *,
    low_memory: bool = False,
) -> Result:
    """Run a job on a model made from objects of the host; they stay as they are.

    Args:
        job: What to do; the model is of use only inside.
        model: MODEL; patches and LoRA apply.
        vae: Its VAE.
        positive: CONDITIONING with one entry, the empty condition.
        size: Side of the crops, pixels.
        num_faces: Largest batch; the host makes room for it.
        low_memory: Compute the VAE's blocks again for the gradient.

    Raises:
        UnsupportedModelError: The model is of another kind, gives no gradient, or the VAE is another's.
        InputError: Size or condition do not fit.
    """
    schedule = levels_of(model).schedule
    if size < 64 or size % 8:
        raise InputError(f"Expected a crop size of at least 64 that is a multiple of 8, got {size}. Use 512 for SD1.5.")
    with torch.inference_mode(False):
        empty = empty_condition(positive)
        network = _host.ExactVae(model, vae)
        with torch.no_grad():
            shape = network.encode(torch.zeros(1, 3, size, size)).shape[1:]
        frozen = GradientModel(model, [network.patcher])

        def run(denoiser: Denoiser, device: torch.device) -> Result:
            told = Condition(empty.tokens.to(device, torch.float32), None if empty.pooled is None else empty.pooled.to(device))
            _check_gradient(denoiser, torch.zeros(1, *shape, device=device), float(schedule.sigmas[0]), told)
            family = type(model.model).__name__
            record, can = partial(record_attention, frozen.network), {Capability.GRADIENT, Capability.EXACT}
            if attention_layers(frozen.network):
                can.add(Capability.ATTENTION)
            return job(
                HostModel(
                    "MODEL", family, size, shape[0], device, schedule, told, denoiser, network, low_memory, record,
                    UnetTokens(told.tokens), frozenset(can),
                )
            )  # fmt: skip

        return frozen.run(run, empty, (num_faces, *shape))


def empty_condition(positive: list[Any]) -> Condition:
    """Read the only entry of a CONDITIONING; call outside inference mode.

    Raises:
        InputError: There is not exactly one for all faces, or it holds more than tokens and a pooled part.
    """
    wanted = "one empty condition, such as 'empty' of Load Built-in Face Model or an encoded empty prompt"
    if len(positive) != 1:
        raise InputError(f"Expected {wanted}, got {len(positive)} entries. Do not combine conditions.")
    tokens, options = positive[0]
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or len(tokens) != 1:
        raise InputError(f"Expected {wanted}, got {tuple(getattr(tokens, 'shape', ()))} instead of one row of tokens.")
    extra = sorted({"area", "mask", "control", "gligen", "concat_latent_image", "hooks"} & set(options))
    if extra:
        raise InputError(f"Expected {wanted}, got one with {', '.join(extra)}. Connect it without.")
    pooled = options.get("pooled_output")
    return Condition(tokens.detach().clone(), None if pooled is None else pooled.detach().clone())


@contextmanager
def record_attention(network: nn.Module) -> Iterator[Recording]:
    """Record the maps of all self-attention layers of a UNet of the host.

    The layers compute their output as before; the maps are computed beside it.

    Laws: test_the_recorder_sees_every_map_and_restores.
    """
    maps = Maps()

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0]
        context = args[1] if len(args) > 1 else kwargs.get("context")
        keys = layer.to_k(tokens if context is None else context)
        maps.add(*(_split_heads(part, layer.heads) for part in (layer.to_q(tokens), keys)), layer.dim_head**-0.5)

    with ExitStack() as restore:
        for layer in attention_layers(network):
            restore.callback(layer.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield maps


def attention_layers(network: nn.Module) -> list[nn.Module]:
    """Return the self-attention layers of a UNet of the host, in the order of its modules; none of another network."""
    parts = ("to_q", "to_k", "heads", "dim_head")
    return [
        module
        for name, module in network.named_modules()
        if name.rpartition(".")[2] == "attn1" and all(hasattr(module, part) for part in parts)
    ]


def _split_heads(values: Tensor, heads: int) -> Tensor:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


def _check_gradient(denoiser: Denoiser, x: Tensor, sigma: float, cond: Condition) -> None:
    # Through the condition: the latent itself is a part of the result, whatever the network does.
    probe = Condition(cond.tokens.clone().requires_grad_(True), cond.pooled)
    with torch.enable_grad():
        denoised = denoiser(x, sigma, probe)
    if not denoised.requires_grad:
        raise UnsupportedModelError(
            "Expected a MODEL that gradients pass through, got one that gives none. Load it in fp32, bf16 or fp16 without "
            "quantisation, and without patches that compute outside of autograd."
        )
