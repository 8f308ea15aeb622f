"""The built-in model file: what it holds, and how damaged or foreign files are refused."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from faceprivacy_core.builtin.model import (
    DEFAULT_FILE,
    FORMAT,
    FORMAT_VERSION,
    FaceModel,
    build_encoder,
    load_face_model,
    read_face_model_file,
)
from faceprivacy_core.candidates import find_again
from faceprivacy_core.diffusion.inversion import invert_euler
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import ddim_sigmas
from faceprivacy_core.errors import InputError, ModelFileError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "portrait.jpg"


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def crop(model: FaceModel) -> torch.Tensor:
    picture = Image.open(SAMPLE).crop((130, 60, 530, 460)).resize((model.resolution, model.resolution))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255.0


def test_latents_have_about_unit_variance_and_decode_to_the_picture(model: FaceModel):
    picture = crop(model)
    latent = model.autoencoder.encode(picture * 2 - 1)
    assert latent.shape == (1, 32, model.resolution // 16, model.resolution // 16)
    assert 0.5 < float(latent.std()) < 1.6
    decoded = (model.autoencoder.decode(latent) + 1) / 2
    psnr = -10 * torch.log10((decoded - picture).pow(2).mean())
    assert float(psnr) > 22.0


def test_tokens_depend_on_the_picture_and_null_does_not(model: FaceModel):
    tokens = model.encode_tokens(torch.cat([crop(model), 1 - crop(model)]))
    assert tokens.shape[1:] == model.empty_tokens().shape[1:]
    assert not torch.allclose(tokens[0], tokens[1], atol=0.1)


def test_the_model_predicts_noise_better_than_nothing(model: FaceModel):
    latent = model.autoencoder.encode(crop(model) * 2 - 1)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    for timestep in (200, 500, 800):
        sigma = float(model.denoiser.schedule.sigmas[timestep])
        denoised = model.denoiser(latent + sigma * noise, sigma, model.encode_tokens(crop(model)))
        eps = (latent + sigma * noise - denoised) / sigma
        assert float((eps - noise).pow(2).mean()) < 0.5


def test_inversion_of_a_real_picture_returns_to_it(model: FaceModel):
    latent = model.autoencoder.encode(crop(model) * 2 - 1)
    sigmas = ddim_sigmas(model.denoiser.schedule, 50)
    error = {}
    for iterations in (0, 5):
        inversion = invert_euler(model.denoiser, latent, sigmas, model.empty_tokens(), iterations=iterations)
        back = sample_euler(model.denoiser, inversion.noise, sigmas, model.empty_tokens())
        error[iterations] = float((back - latent).norm() / latent.norm())
    assert error[5] < 5e-3
    assert error[0] > 10 * error[5]


def test_noise_of_a_face_that_the_model_drew_has_unit_spread(model: FaceModel):
    """A photograph's detail is less likely to the model than what it draws, so there the spread is 1.13 (model card)."""
    sigmas, tokens = ddim_sigmas(model.denoiser.schedule, 50), model.encode_tokens(crop(model))
    noise = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = sample_euler(model.denoiser, sigmas[0].float() * noise, sigmas, tokens)
    inversion = invert_euler(model.denoiser, drawn, sigmas, tokens, iterations=5)
    # 8,192 values: the standard deviation of unit noise is known to 0.008 (one sigma).
    assert abs(float((inversion.noise / sigmas[0]).std()) - 1.0) < 0.05


def test_no_parameter_takes_gradients(model: FaceModel):
    assert not any(p.requires_grad for p in model.denoiser.unet.parameters())
    assert not model.autoencoder.training


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelFileError, match="missing"):
        load_face_model(tmp_path / "gone.safetensors")


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(DEFAULT_FILE.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="not a readable"):
        load_face_model(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="format 'pt'"):
        load_face_model(path)


def test_weights_that_contradict_the_header_are_refused(tmp_path: Path):
    with safe_open(DEFAULT_FILE, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config["autoencoder"]["channels"] = [64, 160, 256]
    path = tmp_path / "wrong.safetensors"
    save_file(tensors, path, metadata={"format": FORMAT, "version": FORMAT_VERSION, "config": json.dumps(config)})
    with pytest.raises(ModelFileError, match="autoencoder weights do not fit"):
        load_face_model(path)


def test_a_header_that_describes_nothing_of_this_release_is_refused(tmp_path: Path):
    path = tmp_path / "header.safetensors"
    for autoencoder in ({"kernels": 3}, None):
        config = json.dumps({"autoencoder": autoencoder, "resolution": 256, "name": "x"})
        save_file({"a": torch.zeros(1)}, path, metadata={"format": FORMAT, "version": FORMAT_VERSION, "config": config})
        with pytest.raises(ModelFileError, match="header with the autoencoder of this release"):
            load_face_model(path)


class MemoryTaken(TorchDispatchMode):
    """Counts the bytes of tensors that are made and hold something."""

    bytes = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not made.is_meta:
            self.bytes += made.nbytes
        return made


@pytest.mark.parametrize(
    "asked",
    [
        {"decoder_channels": [40_000] * 3}, {"encoder_blocks": [10**9, 1, 1]}, {"channels": [8] * 10_000}, {"side": 2**40},
        {"latent_channels": -1}, {"patch": 0}, {"style_channels": 3}, {"head_channels": "many"}, {"head_channels": 10**400},
    ],
)  # fmt: skip
def test_a_header_that_asks_for_much_is_refused_before_memory_is_taken(tmp_path: Path, asked: dict[str, object]):
    """A thousand bytes could ask for layers of gigabytes, or for a billion of them."""
    config = json.dumps({"autoencoder": asked, "resolution": 256, "name": "x", "tokens": {}})
    path = tmp_path / "huge.safetensors"
    save_file({"autoencoder.a": torch.zeros(1)}, path, metadata={"format": FORMAT, "version": FORMAT_VERSION, "config": config})
    file, started = read_face_model_file(path), time.process_time()
    with pytest.raises(ModelFileError), MemoryTaken() as taken:
        build_encoder(file)
    assert taken.bytes < 1e5
    assert time.process_time() - started < 4.0


def test_weights_are_held_once_and_are_those_of_the_file(model: FaceModel):
    """The file is kept for the bank of donors; a second copy of all weights was kept beside it."""
    networks = {"unet": model.denoiser.unet, "autoencoder": model.autoencoder, "tokens": model.token_head}
    for part, network in networks.items():
        kept = getattr(model.file, part)
        assert set(kept) == set(network.state_dict())
        assert all(value.data_ptr() == kept[name].data_ptr() for name, value in network.state_dict().items())
        assert not any(value.is_inference() for value in network.state_dict().values())


def test_the_file_for_128_px_of_an_earlier_release_is_named(tmp_path: Path):
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"format": FORMAT, "version": "1", "config": "{}"})
    with pytest.raises(ModelFileError, match="128 px of an earlier release"):
        load_face_model(path)


def test_crops_and_latents_of_another_size_are_refused_by_name(model: FaceModel):
    """A stock graph that gives the model a whole picture would get shreds of faces."""
    with pytest.raises(InputError, match=r"crops of 256 x 256 .* got 512 x 384.*at the size"):
        model.autoencoder.encode(torch.zeros(1, 3, 384, 512))
    with pytest.raises(InputError, match=r"latents of 16 x 16 .* got 64 x 64"):
        model.autoencoder.decode(torch.zeros(1, 32, 64, 64))


def test_the_bank_of_donors_is_whole_and_every_donor_decodes_to_a_face_that_is_where_it_is_said(model: FaceModel):
    bank = model.donors
    assert len(bank) >= 256
    assert 0 < len(bank.flawed) < 0.1 * len(bank), "those of the shipped bank are known"
    assert 0.4 < float(bank.women.float().mean()) < 0.6
    assert float(bank.older.float().mean()) > 0.1
    assert set(bank.vectors) == set(DEFAULT_SURROGATES)
    for vectors in bank.vectors.values():
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(bank)), rtol=0, atol=5e-3)
    detector, missed = load_detector(), 0
    for index in range(0, len(bank), 8):
        with torch.no_grad():
            picture = ((model.autoencoder.decode(bank.latents[index : index + 1]) + 1.0) / 2.0).clamp(0.0, 1.0)
        drift, _ = find_again(picture, bank.landmarks5[index : index + 1] * model.resolution - 0.5, detector)
        missed += float(drift) > 0.03
    assert missed == 0


def test_a_file_without_donors_says_so(model: FaceModel):
    bare = replace(model, file=replace(model.file, donors={}))
    with pytest.raises(ModelFileError, match="bank of donors"):
        bare.donors.latents  # noqa: B018 (asking for it is the test)
