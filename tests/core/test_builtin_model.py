"""The built-in model file: what it holds, and how damaged or foreign files are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from faceprivacy_core.builtin.model import DEFAULT_FILE, FaceModel, load_face_model
from faceprivacy_core.diffusion.inversion import invert_euler
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import ddim_sigmas
from faceprivacy_core.errors import ModelFileError

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
    assert latent.shape == (1, 4, model.resolution // 8, model.resolution // 8)
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
    # 1,024 values: the standard deviation of unit noise is known to 0.022 (one sigma).
    assert abs(float((inversion.noise / sigmas[0]).std()) - 1.0) < 0.1


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
    config["autoencoder"]["channels"] = [64, 192]
    path = tmp_path / "wrong.safetensors"
    metadata = {"format": "faceprivacy-face-model", "version": "1", "config": json.dumps(config)}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="autoencoder"):
        load_face_model(path)
