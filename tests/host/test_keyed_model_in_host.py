"""Keyed faces on MODEL and VAE of the host: the core's own results, every family, exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host_models import VAES, condition, taesd, tiny_sdxl, tiny_unet, v_prediction
from tests.support.host_scenes import Core

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.usefixtures("inside_the_host")

SIDE = 64


@pytest.fixture(scope="module")
def builtin(host_nodes: ModuleType, pack_nodes: dict[str, Any]) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        model, vae, _, size, empty = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
    return {"model": model, "vae": vae, "positive": empty, "crop_size": size}


def _crop(side: int = SIDE) -> Tensor:
    import torch

    ramp = torch.linspace(0.1, 0.9, side)
    return torch.stack([ramp.expand(side, side), ramp.expand(side, side).T, torch.full((side, side), 0.4)])[None].clone()


def _latent() -> Tensor:
    import torch

    return torch.randn(2, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(3))


# The same as the core


def test_builtin_model_has_the_fingerprints_of_the_core(
    core: Core, builtin: dict[str, Any], keyed_model: Callable[..., Any]
) -> None:
    ours = core("faceprivacy_core.keyed.models").KeyedModel(core("faceprivacy_core.builtin.model").load_face_model())
    theirs = keyed_model(**builtin)
    assert theirs.crop_size == ours.crop_size
    for name in ("vae_fingerprint", "model_fingerprint", "condition_fingerprint"):
        assert getattr(theirs, name)() == getattr(ours, name)(), name


def test_builtin_model_encodes_decodes_and_denoises_as_in_the_core(
    core: Core, builtin: dict[str, Any], keyed_model: Callable[..., Any]
) -> None:
    import torch

    ours = core("faceprivacy_core.keyed.models").KeyedModel(core("faceprivacy_core.builtin.model").load_face_model())
    theirs = keyed_model(**builtin)
    crop = _crop(builtin["crop_size"])
    latent = ours.encode(crop)
    torch.testing.assert_close(theirs.encode(crop), latent, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(theirs.decode(latent), ours.decode(latent), rtol=0.0, atol=1e-5)

    def job(denoiser: Any, sigmas: Tensor) -> Tensor:
        return denoiser(latent + sigmas[3] * torch.ones_like(latent), sigmas[3], None)

    torch.testing.assert_close(theirs.run(job, latent, 8), ours.run(job, latent, 8), rtol=0.0, atol=1e-4)


# Stable Diffusion's families, at tiny size


@pytest.mark.parametrize("vae_name", VAES)
def test_latents_are_those_of_the_hosts_vae_in_the_models_space(keyed_model: Callable[..., Any], vae_name: str) -> None:
    import torch

    model, vae = tiny_unet(), VAES[vae_name]()
    keyed, crop = keyed_model(model, vae), _crop()
    stock = vae.encode(crop.movedim(1, -1))
    scale = model.get_model_object("latent_format").process_in
    latent = keyed.encode(crop)
    torch.testing.assert_close(latent, scale(stock).float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(keyed.decode(latent), vae.decode(stock).movedim(-1, 1).float(), rtol=0.0, atol=2e-3)
    assert not latent.is_inference()


@pytest.mark.parametrize("vae_name", VAES)
def test_decoder_passes_gradients_when_they_are_wanted_and_only_then(keyed_model: Callable[..., Any], vae_name: str) -> None:
    import torch

    keyed = keyed_model(tiny_unet(), VAES[vae_name]())
    with torch.inference_mode(False), torch.enable_grad():
        latent = _latent().requires_grad_()
        keyed.decode(latent).sum().backward()
        assert float(latent.grad.abs().max()) > 0
    with torch.inference_mode(False), torch.no_grad():
        assert not keyed.decode(latent).requires_grad


def _apply(model: Any, x: Tensor, sigma: float, positive: list[Any]) -> Tensor:
    """Denoise with the host's network, past all samplers."""
    import torch

    ((tokens, options),) = positive
    extra = {"y": model.model.encode_adm(pooled_output=options["pooled_output"], device=x.device)} if options else {}
    extra = {name: value.expand(len(x), -1) for name, value in extra.items()}
    return model.model.apply_model(x, torch.full((len(x),), sigma), c_crossattn=tokens.expand(len(x), -1, -1), **extra)


@pytest.mark.parametrize("make", [tiny_unet, tiny_sdxl, v_prediction], ids=["SD1.5", "SDXL", "v-prediction"])
def test_job_gets_falling_levels_and_the_networks_own_estimate(
    keyed_model: Callable[..., Any], make: Callable[[], Any]
) -> None:
    import torch

    model, latent, seen = make(), _latent(), []
    pooled = {"pooled_output": torch.ones(1, 1280)} if make is tiny_sdxl else {}
    positive = condition(**pooled)

    def job(denoiser: Any, sigmas: Tensor) -> Tensor:
        seen.extend(sigmas.tolist())
        return denoiser(latent, sigmas[1], None)

    result = keyed_model(model, taesd(), positive).run(job, latent, 5)
    assert len(seen) == 6
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 0.0
    assert not result.is_inference()
    model.patch_model()
    try:
        expected = _apply(model, latent, seen[1], positive)
    finally:
        model.unpatch_model()
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_result_of_a_job_is_returned_bit_by_bit(keyed_model: Callable[..., Any]) -> None:
    import torch

    latent = _latent()
    assert torch.equal(keyed_model(tiny_unet(), taesd(), condition()).run(lambda *_: latent, latent, 4), latent)


def test_model_of_half_precision_computes_in_full_for_the_way_back(keyed_model: Callable[..., Any]) -> None:
    import torch

    model = tiny_unet()
    model.model.diffusion_model.half()
    model.model.manual_cast_dtype = torch.float16
    used = []

    def job(_denoiser: Any, _sigmas: Tensor) -> Tensor:
        used.append(model.model.get_dtype_inference())
        return _latent()

    keyed_model(model, taesd(), condition(), reversible=True).run(job, _latent(), 4)
    keyed_model(model, taesd(), condition(), reversible=False).run(job, _latent(), 4)
    assert used == [torch.float32, torch.float16]


# Exact arithmetic, cancelling


@pytest.mark.parametrize("fails", [False, True])
def test_tf32_is_off_inside_and_as_before_afterwards(keyed_model: Callable[..., Any], fails: bool) -> None:
    import torch

    backends, inside = (torch.backends.cuda.matmul, torch.backends.cudnn), []
    before = [backend.allow_tf32 for backend in backends]

    def job(_denoiser: Any, _sigmas: Tensor) -> Tensor:
        inside.append([backend.allow_tf32 for backend in backends])
        if fails:
            raise RuntimeError("on purpose")
        return _latent()

    try:
        for backend in backends:
            backend.allow_tf32 = True
        keyed = keyed_model(tiny_unet(), taesd(), condition())
        if fails:
            with pytest.raises(RuntimeError, match="on purpose"):
                keyed.run(job, _latent(), 4)
        else:
            keyed.run(job, _latent(), 4)
        assert [backend.allow_tf32 for backend in backends] == [True, True]
        assert inside == [[False, False]]
        assert torch.is_inference_mode_enabled()
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def test_cancelling_stops_every_part(keyed_model: Callable[..., Any]) -> None:
    import comfy.model_management as management

    keyed, latent = keyed_model(tiny_unet(), taesd(), condition()), _latent()
    calls = [
        lambda: keyed.encode(_crop()),
        lambda: keyed.decode(latent),
        lambda: keyed.run(lambda denoiser, sigmas: denoiser(latent, sigmas[0], None), latent, 4),
    ]
    for call in calls:
        management.interrupt_current_processing(True)
        with pytest.raises(management.InterruptProcessingException):
            call()
