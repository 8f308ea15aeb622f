"""A MODEL of the host that gradients pass through."""

from __future__ import annotations

import contextlib
import copy
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ..faceprivacy_core.diffusion.model import Condition
from ..faceprivacy_core.protocols import Denoiser
from ._host_levels import levels_of

Result = TypeVar("Result")
ALONG = "faceprivacy_along"


def as_conditioning(cond: Condition) -> list[Any]:
    """Return one entry of the host's CONDITIONING."""
    return [cond.tokens, {} if cond.pooled is None else {"pooled_output": cond.pooled}]


def ordinary_patcher(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """Copy a model with ordinary, frozen tensors and all its patches; call outside inference mode.

    The host creates weights in inference mode, and such tensors cannot take part in autograd. The
    copy keeps the weights' types and is under the host's memory management.
    """
    if patcher.is_dynamic():  # weights come from disk on demand; the host's own training does the same
        copied = patcher.clone(force_deepcopy=True)
    else:
        comfy.model_management.unload_model_and_clones(patcher)  # else patches would be in the weights twice
        shared = [getattr(patcher.model, "model_config", None)]  # the host's cannot be copied, and holds no weights
        network = copy.deepcopy(patcher.model, {id(item): item for item in shared})
        copied = patcher.clone(model_override=(network, ({}, {}, {}, set())))
    copied.model.eval().requires_grad_(False)
    return copied


def keep_inputs(norms: Iterable[torch.nn.Module]) -> None:
    """Give norms of a copied network a copy each of what they get: the host adds in place to what autograd has yet to read."""
    for norm in norms:
        norm.register_forward_pre_hook(lambda _module, inputs: (inputs[0].clone(), *inputs[1:]))


@contextlib.contextmanager
def in_training() -> Iterator[None]:
    """Let the host compute with operations that have a gradient; those of Flux are fused otherwise and have none."""
    management = comfy.model_management
    before = getattr(management, "in_training", False)
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = before


class GradientModel:
    """The core's `Denoiser` on a copy of a MODEL, by the host's own sampling path.

    Patches, LoRA and hooks of the MODEL apply. Make and use it outside inference mode.

    Args:
        model: MODEL of the host.
        along: Further models that must stay loaded, such as a text encoder.
    """

    def __init__(self, model: comfy.model_patcher.ModelPatcher, along: Sequence[comfy.model_patcher.ModelPatcher] = ()) -> None:
        self._levels, self._patcher = levels_of(model), ordinary_patcher(model)
        self._patcher.set_additional_models(ALONG, list(along))
        if self._levels.is_flow:
            keep_inputs(module for module in self.network.modules() if isinstance(module, torch.nn.LayerNorm))

    @property
    def network(self) -> torch.nn.Module:
        """The UNet of the copy."""
        return self._patcher.model.diffusion_model

    def run(self, job: Callable[[Denoiser, torch.device], Result], empty: Condition, shape: Sequence[int]) -> Result:
        """Run a job that may call the model as often as it likes.

        Args:
            job: Takes the denoiser, whose conditions are `Condition`, and its device.
            empty: The empty condition, for the host's preparations.
            shape: (B, C, h, w) of the largest batch; the host makes room for it.
        """
        results: list[Result] = []

        def sampler_function(model_k, x, _sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202 (host's signature)
            guider = model_k.inner_model
            template = guider.conds["positive"][0]

            def denoise(x: Tensor, sigma: Tensor | float, cond: Condition) -> Tensor:
                guider.conds["positive"] = [self._prepared(template, cond, x)]
                return self._levels.denoise(model_k, x, sigma, extra_args)

            results.append(job(denoise, x.device))
            return x

        nothing = torch.zeros(shape)
        entry = [as_conditioning(empty)]
        # Rising levels, as in an inversion: guidance on the MODEL must not be learned around, and refuses them.
        sampling = self._patcher.get_model_object("model_sampling")
        levels = torch.stack([sampling.sigma_min, sampling.sigma_max]).float().cpu()
        with in_training():
            comfy.sample.sample_custom(
                self._patcher, nothing, 1.0, comfy.samplers.KSAMPLER(sampler_function), levels, entry, entry, nothing,
                disable_pbar=True,
            )  # fmt: skip
        return results[0]

    def _prepared(self, template: dict[str, Any], cond: Condition, x: Tensor) -> dict[str, Any]:
        """Put a condition where the host has the prepared ones, with the size entries of the host's own encoding."""
        entry = {**template, "cross_attn": cond.tokens, "uuid": uuid.uuid4()}
        if cond.pooled is not None:
            entry["pooled_output"] = cond.pooled.expand(len(cond.tokens), -1)
        return comfy.samplers.encode_model_conds(self._patcher.model.extra_conds, [entry], x, x.device, "positive")[0]
