"""Gradients through the host's own CLIP and UNet at tiny size, which MSI Inversion learns by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import host_models
from tests.support.host_models import Checkpoint
from tests.support.host_scenes import Core

pytestmark = pytest.mark.usefixtures("inside_the_host")

FAMILIES = ["sd1", "sd2", "sdxl"]


def _space(core: Core, checkpoint: Checkpoint) -> Any:
    import torch

    with torch.inference_mode(False):
        return core("nodes._host_text").TextTokens(checkpoint.model, checkpoint.clip, trainable=True)


def _vectors(space: Any, batch: int = 2) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(4)
    with torch.inference_mode(False):
        return {
            name: (start + 0.1 * torch.randn(batch, *start.shape, generator=generator)).requires_grad_()
            for name, start in space.start(2).items()
        }


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_tokens_of_every_encoder_through_clip_and_unet(
    core: Core, checkpoints: Callable[[str], Checkpoint], family: str
) -> None:
    import torch

    checkpoint, gradients = checkpoints(family), core("nodes._host_gradients")
    space = _space(core, checkpoint)
    vectors = _vectors(space)

    def job(denoiser: Any, device: Any) -> Any:
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.enable_grad():
            error = (denoiser(x, torch.tensor([0.7, 5.0]), space.condition(vectors))).square().sum()
            return torch.autograd.grad(error, list(vectors.values()))

    with torch.inference_mode(False):
        found = gradients.GradientModel(checkpoint.model, space.models).run(job, space.empty, (2, 4, 8, 8))
    assert len(found) == (2 if family == "sdxl" else 1)
    for gradient in found:
        assert bool(torch.isfinite(gradient).all())
        assert bool((gradient.abs().amax(-1) > 0).all())  # every token of both faces


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_the_slope_of_what_the_host_itself_computes(
    core: Core, checkpoints: Callable[[str], Checkpoint], family: str
) -> None:
    import comfy.sample
    import comfy.samplers
    import torch

    checkpoint = checkpoints(family)
    space = _space(core, checkpoint)
    vectors = _vectors(space, batch=1)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def of_the_host(values: dict[str, Any]) -> Any:
        """Encode with the host's CLIP and denoise with the host's MODEL, without anything of ours between."""
        tokens = checkpoint.clip.tokenize("")
        for name, learned in values.items():
            row = tokens[name][0]
            tokens[name] = [[row[0], *((vector, 1.0) for vector in learned[0]), *row[1:]][: len(row)]]
        conditioning = checkpoint.clip.encode_from_tokens_scheduled(tokens)
        found = []

        def sampler_function(model_k, _x, _sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202
            found.append(model_k(x, torch.full((1,), 2.0), **extra_args))
            return x

        nothing, levels = torch.zeros_like(x), torch.tensor([2.0, 0.0])
        comfy.sample.sample_custom(
            checkpoint.model, nothing, 1.0, comfy.samplers.KSAMPLER(sampler_function), levels, conditioning, conditioning,
            nothing, disable_pbar=True,
        )  # fmt: skip
        return found[0]

    def job(denoiser: Any, device: Any) -> Any:
        with torch.enable_grad():
            denoised = denoiser(x.clone(), torch.tensor([2.0]), space.condition(vectors))
            return denoised.detach(), torch.autograd.grad(denoised.sum(), list(vectors.values()))

    with torch.inference_mode(False):
        model = core("nodes._host_gradients").GradientModel(checkpoint.model, space.models)
        denoised, gradients = model.run(job, space.empty, (1, 4, 8, 8))
        values = {name: vector.detach() for name, vector in vectors.items()}
    torch.testing.assert_close(denoised, of_the_host(values), rtol=0, atol=1e-5)
    step = 1e-2
    for name, gradient in zip(values, gradients, strict=True):
        direction = gradient / gradient.norm()
        up, down = (of_the_host({**values, name: values[name] + sign * step * direction}).sum() for sign in (1, -1))
        torch.testing.assert_close((up - down) / (2 * step), gradient.norm(), rtol=2e-2, atol=1e-3)


def test_a_lora_of_the_model_is_learned_with(core: Core, checkpoints: Callable[[str], Checkpoint]) -> None:
    import comfy.model_management
    import torch

    checkpoint = checkpoints("sd1")
    patched = host_models.with_lora(checkpoint.model, 0.5)
    comfy.model_management.load_models_gpu([patched])  # the weights now hold the patch already
    space = _space(core, checkpoint)
    vectors = _vectors(space)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def job(denoiser: Any, device: Any) -> Any:
        return denoiser(x.clone(), torch.tensor([0.7, 5.0]), space.condition(vectors)).detach()

    with torch.inference_mode(False):
        make = core("nodes._host_gradients").GradientModel
        plain, told = (make(model, space.models).run(job, space.empty, (2, 4, 8, 8)) for model in (checkpoint.model, patched))
        once = make(patched, space.models).run(job, space.empty, (2, 4, 8, 8))
    assert float((plain - told).abs().max()) > 1e-3
    torch.testing.assert_close(told, once, rtol=0, atol=1e-6)
