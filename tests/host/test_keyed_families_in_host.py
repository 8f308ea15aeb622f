"""Keyed faces with checkpoints of Stable Diffusion's families, at tiny size with random weights: plumbing only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs
from tests.support.host_models import (
    autoencoder_kl,
    condition,
    taesd,
    tiny_sdxl,
    tiny_unet,
    v_prediction,
    with_faint_output,
    with_lora,
)
from tests.support.host_scenes import Core, open_photo
from tests.support.keys import FOLDER, ensure_key

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]

SIZE = 64
Face = tuple["Tensor", Any, "Tensor"]
FAMILIES: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "SD1.5": (tiny_unet, ()),
    "v-prediction": (v_prediction, ()),
    "SDXL": (tiny_sdxl, (1, 1280)),
}


@pytest.fixture(scope="module")
def face(pack_nodes: dict[str, Any]) -> Face:
    """A photo, its largest face, and the face's mask."""
    import torch

    with torch.inference_mode():
        return open_photo(pack_nodes, SAMPLE_PHOTO, which="largest", region="inner face")


@pytest.fixture
def handle(pack_nodes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / FOLDER))
    ensure_key(tmp_path, "default")
    return pack_nodes["FacePrivacy_PrivacyKey"].execute("default").args[0]


@pytest.fixture
def encrypt(
    pack_nodes: dict[str, Any], core: Core, face: Face, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Tensor, str]]:
    """Run Keyed Encrypt; covers are not looked at, since random weights draw no faces."""
    monkeypatch.setattr(core("nodes.keyed"), "CoverCheck", lambda *_: None)
    node = pack_nodes["FacePrivacy_KeyedEncrypt"]

    def run(**given: Any) -> tuple[Any, Tensor, str]:
        settings = graphs.widget_defaults(node) | {"size": SIZE, "steps": 4} | given
        return node.execute(*face, handle, **settings).args

    return run


@pytest.fixture
def decrypt(pack_nodes: dict[str, Any], handle: Any) -> Callable[..., Tensor]:
    return lambda keyed, *parts: pack_nodes["FacePrivacy_KeyedDecrypt"].execute(keyed, handle, "", *parts).args[0]


def _positive(family: str) -> list[Any]:
    import torch

    pooled = FAMILIES[family][1]
    return condition(**({"pooled_output": torch.ones(pooled)} if pooled else {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_latent_mode_draws_a_cover_and_opens(
    face: Face, encrypt: Callable[..., Any], decrypt: Callable[..., Tensor], family: str
) -> None:
    import torch

    model, vae, positive = FAMILIES[family][0](), autoencoder_kl(), _positive(family)
    keyed, published, report = encrypt(mode="latent", model=model, vae=vae, positive=positive)
    assert "mode latent" in report
    changed = (published != face[0]).any(dim=-1)
    assert 1000 < int(changed.sum()) < changed.numel() / 4
    back = decrypt(keyed, model, vae)
    assert not torch.equal(back, published)
    # At the soft rim a pixel of the cover may happen to equal the original's.
    far = torch.nn.functional.max_pool2d(changed.float(), 31, stride=1, padding=15) == 0
    assert torch.equal(back[far], face[0][far])
    assert not back.is_inference()


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_mode_draws_a_cover_and_opens_bit_by_bit(
    face: Face, encrypt: Callable[..., Any], decrypt: Callable[..., Tensor], family: str
) -> None:
    import torch

    keyed, published, _ = encrypt(mode="exact", model=FAMILIES[family][0](), vae=taesd(), positive=_positive(family))
    assert not torch.equal(published, face[0])
    assert torch.equal(decrypt(keyed), face[0])


@pytest.mark.parametrize("family", ["SDXL"])
def test_image_mode_returns_on_a_model_whose_steps_can_be_inverted(
    core: Core, face: Face, encrypt: Callable[..., Any], decrypt: Callable[..., Tensor], family: str
) -> None:
    """The VAE's weights are random, so nothing comes back well; it comes back nearer to the original than the cover."""
    model, vae, positive = with_faint_output(FAMILIES[family][0]()), taesd(), _positive(family)
    keyed, published, report = encrypt(mode="image", model=model, vae=vae, positive=positive)
    assert "mode image" in report
    back, changed = decrypt(keyed, model, vae, positive), (published != face[0]).any(dim=-1)
    before, after = ((picture - face[0])[changed].pow(2).mean() for picture in (published, back))
    assert float(after) < float(before)
    with pytest.raises(core("faceprivacy_core.errors").ModelMismatchError):
        decrypt(keyed, with_lora(model, 0.5), vae, positive)


def test_signflip_runs_on_a_model_of_the_host_and_names_its_model(
    core: Core, encrypt: Callable[..., Any], decrypt: Callable[..., Tensor]
) -> None:
    model, vae, positive = tiny_unet(), taesd(), condition()
    keyed, _, _ = encrypt(mode="signflip", model=model, vae=vae, positive=positive)
    decrypt(keyed, model, vae, positive)
    mismatch = core("faceprivacy_core.errors").ModelMismatchError
    others = [
        (with_lora(model, 0.5), vae, positive),
        (v_prediction(), vae, positive),
        (model, autoencoder_kl(), positive),
        (model, vae, condition(strength=0.5)),
    ]
    for parts in others:
        with pytest.raises(mismatch):
            decrypt(keyed, *parts)


def test_latent_mode_needs_its_vae_and_no_other_part(
    core: Core, encrypt: Callable[..., Any], decrypt: Callable[..., Tensor]
) -> None:
    import torch

    model, vae = tiny_unet(), taesd()
    keyed, _, _ = encrypt(mode="latent", model=model, vae=vae, positive=condition())
    assert torch.equal(decrypt(keyed, with_lora(model, 0.5), vae), decrypt(keyed, model, vae))
    with pytest.raises(core("faceprivacy_core.errors").ModelMismatchError):
        decrypt(keyed, model, autoencoder_kl())


@pytest.mark.parametrize("mode", ["image", "signflip"])
def test_guided_model_is_refused_where_decrypting_repeats_its_steps(core: Core, encrypt: Callable[..., Any], mode: str) -> None:
    guided = tiny_unet()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    parts = {"model": guided, "vae": taesd(), "positive": condition()}
    with pytest.raises(core("faceprivacy_core.errors").UnsupportedModelError, match="sampler_post_cfg_function"):
        encrypt(mode=mode, **parts)
    encrypt(mode="latent", **parts)


def test_map_that_cannot_be_inverted_is_refused(core: Core, encrypt: Callable[..., Any]) -> None:
    """Random weights are far too steep for the fixed point in few iterations."""
    errors = core("faceprivacy_core.errors")
    with pytest.raises(errors.NumericalError, match=r"Expected (an inversion|face 0 to come back)"):
        encrypt(mode="image", iterations=1, model=tiny_unet(), vae=taesd(), positive=condition())


def test_host_keeps_its_random_state(encrypt: Callable[..., Any]) -> None:
    import torch

    state = torch.get_rng_state()
    encrypt(mode="latent", model=tiny_unet(), vae=taesd(), positive=condition())
    assert torch.equal(torch.get_rng_state(), state)
