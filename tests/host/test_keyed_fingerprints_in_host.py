"""What identifies a model of the host for keyed faces, and which ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host_models import autoencoder_kl, condition, taesd, tiny_sdxl, tiny_unet, v_prediction, with_lora
from tests.support.host_scenes import Core

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.usefixtures("inside_the_host")


def _latent() -> Tensor:
    import torch

    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))


# Fingerprints


def test_model_fingerprint_sees_weights_patches_schedule_and_vae(keyed_model: Callable[..., Any]) -> None:
    import torch

    model, vae = tiny_unet(), taesd()
    prints = {
        "plain": keyed_model(model, vae).model_fingerprint(),
        "lora": keyed_model(with_lora(model, 0.5), vae).model_fingerprint(),
        "stronger": keyed_model(with_lora(model, 0.6), vae).model_fingerprint(),
        "vae": keyed_model(model, autoencoder_kl()).model_fingerprint(),
        "v": keyed_model(v_prediction(), vae).model_fingerprint(),
    }
    other = tiny_unet()
    with torch.no_grad():
        next(other.model.diffusion_model.parameters()).view(-1)[0] += 0.1
    prints["weight"] = keyed_model(other, vae).model_fingerprint()
    assert len(set(prints.values())) == len(prints), prints
    assert prints["plain"] == keyed_model(tiny_unet(), taesd()).model_fingerprint(), "Equal models must agree."


def test_loading_a_patched_model_does_not_change_its_fingerprint(keyed_model: Callable[..., Any]) -> None:
    model = with_lora(tiny_unet(), 0.5)
    before = keyed_model(model, taesd()).model_fingerprint()
    keyed_model(model, taesd(), condition()).run(lambda *_: _latent(), _latent(), 4)  # leaves it loaded, weights patched
    assert keyed_model(model, taesd()).model_fingerprint() == before


def test_vae_fingerprint_is_the_same_in_every_precision_and_another_for_other_weights(keyed_model: Callable[..., Any]) -> None:
    import torch

    prints = []
    for dtype in (torch.float32, torch.bfloat16):
        vae = autoencoder_kl()
        vae.first_stage_model.to(dtype)
        prints.append(keyed_model(tiny_unet(), vae).vae_fingerprint())
    vae = autoencoder_kl()
    with torch.no_grad():
        next(vae.first_stage_model.decoder.parameters()).view(-1)[0] += 0.1
    prints.append(keyed_model(tiny_unet(), vae).vae_fingerprint())
    prints.append(keyed_model(tiny_sdxl(), autoencoder_kl()).vae_fingerprint())  # scales latents otherwise
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_condition_fingerprint_sees_tokens_and_options(core: Core, keyed_model: Callable[..., Any]) -> None:
    import torch

    model, vae = tiny_unet(), taesd()
    conditions = [
        condition(),
        [[condition()[0][0] + 1.0, {}]],
        condition(pooled_output=torch.zeros(1, 4)),
        condition(pooled_output=torch.ones(1, 4)),
        condition(start_percent=0.1),
        condition() * 2,
    ]
    prints = [keyed_model(model, vae, condition).condition_fingerprint() for condition in conditions]
    assert len(set(prints)) == len(prints)
    assert keyed_model(model, vae, condition()).condition_fingerprint() == prints[0]
    with pytest.raises(core("faceprivacy_core.errors").UnsupportedModelError, match=r"got one with object.*without ControlNet"):
        keyed_model(model, vae, condition(control=object())).condition_fingerprint()


# Refusals


def _wrapped(model: Any) -> Any:
    model.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]))
    return model


def _attention(model: Any) -> Any:
    model.set_model_attn1_patch(lambda q, k, v, extra: (q, k, v))
    return model


def _guidance(model: Any) -> Any:
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    return model


def _sampler_wrapper(model: Any) -> Any:
    import comfy.patcher_extension

    model.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, lambda run, *args, **kw: run(*args, **kw))
    return model


@pytest.mark.parametrize("change", [_wrapped, _attention, _guidance, _sampler_wrapper])
def test_changed_model_is_refused_for_the_way_back_and_may_draw_covers(
    core: Core, keyed_model: Callable[..., Any], change: Callable[[Any], Any]
) -> None:
    import torch

    model, latent = change(tiny_unet().clone()), _latent()
    with pytest.raises(core("faceprivacy_core.errors").UnsupportedModelError, match=r"without guidance.*or use mode latent"):
        keyed_model(model, taesd(), reversible=True)
    draws = keyed_model(model, taesd(), condition(), reversible=False)
    assert bool(torch.isfinite(draws.run(lambda denoiser, s: denoiser(latent, s[1], None), latent, 4)).all())


def test_missing_condition_is_named(core: Core, keyed_model: Callable[..., Any]) -> None:
    for positive in (None, []):
        with pytest.raises(core("faceprivacy_core.errors").InputError, match="got none"):
            keyed_model(tiny_unet(), taesd(), positive).run(lambda *_: _latent(), _latent(), 4)


def test_vae_with_another_reduction_is_refused(core: Core, keyed_model: Callable[..., Any]) -> None:
    vae = taesd()
    vae.downscale_ratio = 4
    with pytest.raises(core("faceprivacy_core.errors").UnsupportedModelError, match="8 times smaller, got one with 4"):
        keyed_model(tiny_unet(), vae)
