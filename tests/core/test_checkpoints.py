"""Every method on checkpoints of every family: laws and plumbing on tiny random networks, which show nothing of looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from faceprivacy_core.adversarial.attack import AttackSettings
from faceprivacy_core.adversarial.objective import Weights
from faceprivacy_core.adversarial.unconditional import EmptySettings
from faceprivacy_core.anonymize import AnonymizeSettings, anonymize_faces
from faceprivacy_core.cloak import CloakSettings, cloak_faces
from faceprivacy_core.diffusion.backends.checkpoint import Checkpoint
from faceprivacy_core.diffusion.backends.loading import load_checkpoint
from faceprivacy_core.diffusion.model import Capability, Condition, identity_of
from faceprivacy_core.embeddings.persons import TokenSettings
from faceprivacy_core.errors import InputError, InversionModelError, ModelFileError, UnsupportedModelError, WrongKeyError
from faceprivacy_core.hide import HideSettings, hide_faces
from faceprivacy_core.images import cut
from faceprivacy_core.inversions.contents import UNPROTECTED, from_bytes, to_bytes
from faceprivacy_core.inversions.stored import stored_part
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.models import KeyedModel
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.regions import claimed_pixels
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.pixels import to_pixels
from faceprivacy_core.recover import invert_faces, open_inversion, recover_crops
from tests.support.checkpoints import FAMILIES, SIDE, UNET, tiny_unet
from tests.support.keyed import raw_key
from tests.support.pictures import faces_in, pictures
from tests.support.recognizer import ProjectionRecognizer

RECOGNIZERS = (ProjectionRecognizer("a", 0), ProjectionRecognizer("b", 1))
A_WORD = TokenSettings(0)
LEARNED = TokenSettings(2, 1)
DRAWN = AnonymizeSettings.published(steps=4, noise=0.95, tokens=A_WORD)
HIDDEN = HideSettings.published(steps=4, tokens=A_WORD, refine=1, look_different=0.0)
CLOAKED = CloakSettings(
    attack=AttackSettings(1, 0.5), weights=Weights(1.0, 0.0), attempts=1, require_protection=False,
    empty=EmptySettings(steps=1), transforms=None,
)  # fmt: skip


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Checkpoint:
    return load_checkpoint(checkpoints[request.param], resolution=SIDE)


def anonymize(model: Checkpoint, count: int = 1, first: int = 0) -> tuple[Tensor, Tensor]:
    result = anonymize_faces(pictures(2)[first : first + count], faces_in(count, first=first), model, RECOGNIZERS, DRAWN)
    return result.images, result.mask


def hide(model: Checkpoint, count: int = 1, first: int = 0) -> tuple[Tensor, Tensor]:
    result = hide_faces(pictures(2)[first : first + count], faces_in(count, first=first), model, RECOGNIZERS, HIDDEN)
    return result.images, result.mask


def cloak(model: Checkpoint, count: int = 1, first: int = 0) -> tuple[Tensor, Tensor]:
    structure = 1.0 if Capability.ATTENTION in model.capabilities else 0.0
    settings = replace(CLOAKED, weights=Weights(1.0, structure))
    result = cloak_faces(pictures(2)[first : first + count], faces_in(count, first=first), model, RECOGNIZERS, settings)
    return result.images, result.mask


# Methods


@pytest.mark.parametrize("method", [anonymize, hide, cloak])
def test_faces_change_outside_the_mask_nothing_does_and_a_batch_is_its_pictures(
    model: Checkpoint, method: Callable[..., tuple[Tensor, Tensor]]
):
    images, mask = method(model, 2)
    before, outside = pictures(2), (mask == 0).expand_as(images)
    assert torch.equal(images[outside], before[outside])
    assert bool(((images - before).abs().amax((1, 2, 3)) > 0.01).all())
    alone, _ = method(model, 1, first=1)
    torch.testing.assert_close(alone[0], images[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["sd1"])
def test_one_seed_gives_the_same_bytes_and_what_is_off_changes_nothing(family: str, checkpoints: dict[str, Path]):
    first, second = (load_checkpoint(checkpoints[family]) for _ in range(2))
    assert torch.equal(anonymize(first)[0], anonymize(second)[0])
    other = replace(DRAWN, seed=1)
    assert not torch.equal(anonymize_faces(pictures(1), faces_in(1), first, RECOGNIZERS, other).images, anonymize(first)[0])
    still = replace(CLOAKED, attack=AttackSettings(0))
    assert torch.equal(cloak_faces(pictures(1), faces_in(1), first, RECOGNIZERS, still).images, pictures(1))
    unguided = anonymize_faces(pictures(1), faces_in(1), first, (), replace(DRAWN, strength=0.0))
    assert unguided.energies == ()


def test_a_saved_inversion_brings_the_face_back_and_fits_no_other_model(model: Checkpoint, checkpoints: dict[str, Path]):
    inversion = invert_faces(pictures(1), faces_in(1), model, steps=3, tokens=LEARNED)
    assert inversion.num_stages == 10
    assert set(inversion.tokens) == set(model.words.encoders)
    opened = open_inversion(from_bytes(to_bytes(stored_part(inversion), UNPROTECTED), UNPROTECTED), model)
    assert torch.equal(opened.stages, inversion.stages), "tokens were rounded before they were inverted under"
    with torch.no_grad():
        bound = model.decode(model.encode(cut(pictures(1), inversion.crops))).clamp(0.0, 1.0)
    torch.testing.assert_close(recover_crops(opened, model), bound, rtol=0, atol=0.01)
    other = load_checkpoint(checkpoints["sd2" if model.family != "SD 2.x" else "sd1"])
    with pytest.raises(InversionModelError):
        open_inversion(stored_part(inversion), other)


def test_only_the_key_opens_and_nothing_else_changes(model: Checkpoint):
    check_mode(model, RecoveryMode.LATENT)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_only_the_key_opens_what_lies_in_the_noise(
    family: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    monkeypatch.setattr("faceprivacy_core.keyed.modes.image.REFINEMENTS", 3)
    check_mode(load_checkpoint(checkpoints[family], resolution=SIDE), RecoveryMode.IMAGE)


def check_mode(model: Checkpoint, mode: RecoveryMode) -> None:
    keyed, faces, original = KeyedModel(model), faces_in(1), to_pixels(pictures(1))
    mask = draw_masks(faces, MaskSettings())[:, None]
    settings = EncryptSettings(mode, steps=3, iterations=3, verify=False)
    made = encrypt_faces(KeyedPicture(original), faces, mask, raw_key(), keyed, settings).picture
    opened = decrypt_faces(KeyedPicture.from_container(made.pixels, made.container()), raw_key(), keyed).pixels
    inside = claimed_pixels(made.claims, *original.shape[:2])
    assert np.array_equal(opened[~inside], original[~inside])
    assert np.array_equal(made.pixels[~inside], original[~inside])
    assert not np.array_equal(opened[inside], made.pixels[inside])
    with pytest.raises(WrongKeyError):
        decrypt_faces(KeyedPicture.from_container(made.pixels, made.container()), raw_key(1), keyed)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_the_person_is_learned_and_a_batch_learns_what_its_faces_learn_alone(family: str, checkpoints: dict[str, Path]):
    model = load_checkpoint(checkpoints[family], resolution=SIDE)
    settings = replace(DRAWN, tokens=LEARNED, strength=0.0)
    told: list[tuple[int, int]] = []
    both = anonymize_faces(
        pictures(2), faces_in(2), model, (), settings, progress=lambda step, total, _=None: told.append((step, total))
    ).images
    assert told == [(step, 2 + 4) for step in range(1, 2 + 4 + 1)]
    told_a_word = anonymize_faces(pictures(2), faces_in(2), model, (), replace(settings, tokens=A_WORD)).images
    assert not torch.equal(both, told_a_word)
    alone = anonymize_faces(pictures(2)[1:], faces_in(1, first=1), model, (), settings).images
    torch.testing.assert_close(alone[0], both[1], rtol=0, atol=2e-3)


# What a family cannot do is one sentence


def test_donors_need_the_built_in_model(model: Checkpoint):
    with pytest.raises(UnsupportedModelError, match=r"that brings a bank of faces of nobody, got tiny-.*\. Use the built-in"):
        anonymize_faces(pictures(1), faces_in(1), model, RECOGNIZERS, AnonymizeSettings())
    assert Capability.IMAGE_TOKENS not in model.capabilities
    with pytest.raises(UnsupportedModelError, match="set the learning steps above 0"):
        model.read_tokens(torch.zeros(1, 4, 8, 8))


def test_half_precision_draws_and_says_that_its_steps_cannot_be_repeated(checkpoints: dict[str, Path]):
    exact, half = (load_checkpoint(checkpoints["sdxl"], dtype=dtype) for dtype in ("fp32", "bf16"))
    assert identity_of(exact) == identity_of(half)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = [one.denoise(x, 1.0, one.empty) for one in (exact, half)]
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0.02)
    with pytest.raises(UnsupportedModelError, match="computes in float32"):
        KeyedModel(half).model_fingerprint()
    assert KeyedModel(half).vae_fingerprint() == KeyedModel(exact).vae_fingerprint()


def test_a_transformer_has_no_maps_to_record(checkpoints: dict[str, Path]):
    model = load_checkpoint(checkpoints["flux"], resolution=SIDE)
    with pytest.raises(UnsupportedModelError, match=r"self-attention can be recorded, got tiny-flux \(Flux\)"):
        cloak_faces(pictures(1), faces_in(1), model, RECOGNIZERS, replace(CLOAKED, weights=Weights(1.0, 1.0)))


# The contract


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_a_flow_is_turned_into_the_clean_latent_and_its_levels_cover_those_of_the_methods(
    family: str, checkpoints: dict[str, Path]
):  # fmt: skip
    model = load_checkpoint(checkpoints[family], resolution=SIDE)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sigma = 3.0
    seen: dict[str, Tensor] = {}

    def forward(sample: Tensor, timestep: Tensor, *_: object, **__: object) -> tuple[Tensor]:
        seen.update(sample=sample, timestep=timestep)
        return (noise - clean,)

    model.denoiser.unet.forward = forward
    torch.testing.assert_close(model.denoise(clean + sigma * noise, sigma, model.empty), clean)
    s = sigma / (1.0 + sigma)
    torch.testing.assert_close(seen["sample"], (1.0 - s) * clean + s * noise)
    torch.testing.assert_close(seen["timestep"], torch.tensor([1000.0 * s]))
    levels = model.schedule.sigmas
    assert bool((levels.diff() > 0).all())
    assert float(levels[0]) < 0.003
    assert 500.0 < float(levels[-1]) < 1e4


def test_patches_of_flux_lie_where_the_pipeline_puts_them():
    from diffusers import FluxPipeline

    from faceprivacy_core.diffusion.backends.transformers import FluxNetwork

    class Seen(torch.nn.Module):
        config = type("Config", (), {"in_channels": 16, "guidance_embeds": False})

        def forward(self, **given: Tensor) -> tuple[Tensor]:
            self.given = given
            return (given["hidden_states"],)

    network, latent = Seen(), torch.randn(2, 4, 6, 8)
    told = {"text_embeds": torch.zeros(2, 4)}
    (back,) = FluxNetwork(network)(latent, torch.full((2,), 500.0), torch.zeros(2, 3, 5), False, told)
    assert torch.equal(back, latent)
    assert torch.equal(network.given["hidden_states"], FluxPipeline._pack_latents(latent, 2, 4, 6, 8))
    places = FluxPipeline._prepare_latent_image_ids(2, 3, 4, torch.device("cpu"), torch.float32)
    assert torch.equal(network.given["img_ids"], places)
    assert torch.equal(network.given["timestep"], torch.full((2,), 0.5))


def test_what_the_networks_predict_is_turned_into_the_clean_latent(checkpoints: dict[str, Path]):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for prediction in ("epsilon", "v_prediction"):
        model = load_checkpoint(checkpoints["sd1"], prediction=prediction)
        answer = torch.zeros_like(noise)
        model.denoiser.unet.forward = lambda *_, answer=answer, **__: (answer,)
        expected = noise if prediction == "epsilon" else noise / (1.0 + 2.0**2)
        torch.testing.assert_close(model.denoise(noise, 2.0, model.empty), expected)


def test_several_at_a_time_are_what_they_are_alone_and_gradients_reach_tokens_and_latents(model: Checkpoint):
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    told = Condition(torch.randn(3, *model.empty.tokens.shape[1:]), model.empty.pooled)
    with torch.no_grad():
        alone, together = (replace(model, at_once=count).denoise(x, 1.0, told) for count in (1, 3))
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    words = {name: vectors[None].requires_grad_() for name, vectors in model.first_tokens(2).items()}
    latent = x[:1].clone().requires_grad_()
    gradients = torch.autograd.grad(
        model.denoise(latent, 1.0, model.condition(words)).square().sum(), [latent, *words.values()]
    )
    assert all(float(part.abs().max()) > 0 for part in gradients)
    decoded = model.decode(latent)
    (gradient,) = torch.autograd.grad(decoded.sum(), latent)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(latent), decoded)
    assert float(gradient.abs().max()) > 0


def test_the_empty_prompt_and_the_word_are_those_of_the_text_encoders(model: Checkpoint):
    assert len(model.empty.tokens) == len(model.face.tokens) == 1
    assert not torch.equal(model.empty.tokens, model.face.tokens)
    assert (model.empty.pooled is not None) == (model.family in ("SDXL", "SD3", "Flux"))
    room = min(encoder.room for encoder in model.words.encoders.values())
    with pytest.raises(InputError, match=f"1 to {room} tokens"):
        model.first_tokens(room + 1)


def test_the_identity_changes_with_any_part_and_with_nothing_else(checkpoints: dict[str, Path]):
    models = [load_checkpoint(checkpoints["sd1"]) for _ in range(5)]
    with torch.no_grad():
        for network in (models[1].denoiser.unet, models[2].vae, models[3].words.encoders["l"].network):
            next(network.parameters()).view(-1)[0] += 1.0
    found = [identity_of(model) for model in models]
    assert found[0] == found[4]
    parts = ("unet", "vae", "text_encoder")
    changed = [[part for part in parts if getattr(one, part) != getattr(found[0], part)] for one in found[1:4]]
    assert changed == [["unet"], ["vae"], ["text_encoder"]]


# Loading


def test_what_cannot_be_loaded_says_what_is_needed(tmp_path: Path, checkpoints: dict[str, Path]):
    good = checkpoints["sd1"]
    with pytest.raises(InputError, match="found nothing at"):
        load_checkpoint(tmp_path / "gone.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"pickle")
    with pytest.raises(InputError, match="can run code"):
        load_checkpoint(tmp_path / "old.ckpt")
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ModelFileError, match="can be read"):
        load_checkpoint(tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match=r"without a model_index\.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"multiple of 64 pixels, got 100\. Take 128"):
        load_checkpoint(good, resolution=100)
    with pytest.raises(InputError, match="dtype of fp32"):
        load_checkpoint(good, dtype="int4")


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [("Lumina2Pipeline", "a flow model"), ("AudioLDMPipeline", "of the kind AudioLDM")],
)
def test_other_families_are_refused_in_one_sentence(tmp_path: Path, pipeline: str, message: str):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match=message):
        load_checkpoint(tmp_path)


def test_a_folder_that_is_not_whole_and_a_vae_of_its_own(tmp_path: Path, checkpoints: dict[str, Path]):
    folder = tmp_path / "part"
    shutil.copytree(checkpoints["sd1"], folder)
    shutil.move(folder / "vae", tmp_path / "vae")
    with pytest.raises(ModelFileError, match="--vae FILE"):
        load_checkpoint(folder)
    given = [load_checkpoint(folder, vae=path) for path in (tmp_path / "vae", checkpoints["sd1"])]
    assert len({identity_of(model).vae for model in given}) == 1
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelFileError, match=r"there is no \.safetensors file"):
        load_checkpoint(folder, vae=tmp_path / "vae")


def test_an_inpainting_checkpoint_is_refused(tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "inpainting"
    shutil.copytree(checkpoints["sd1"], folder)
    monkeypatch.setattr("tests.support.checkpoints.UNET", {**UNET, "in_channels": 9})
    tiny_unet("sd1").save_pretrained(folder / "unet")
    with pytest.raises(UnsupportedModelError, match="4 channels of its VAE, got one for 9"):
        load_checkpoint(folder)
