"""The training room at toy size: every stage runs, losses fall, a stop costs nothing, the file loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from faceprivacy_core.builtin.detail import twice
from faceprivacy_core.builtin.model import load_face_model
from training.__main__ import run
from training.autoencoder import load_trained, make_autoencoder
from training.diffusion import Denoising
from training.export import quantise
from training.faces import OvalSource
from training.half import HalfTwin
from training.loop import load_checkpoint, read_log, run_stage
from training.pictures import FacePool, step_generator
from training.settings import Settings, build_settings, load_settings

TOY = Path(__file__).parents[2] / "training" / "toy.toml"


def settings_in(folder: Path, *changes: str) -> Settings:
    here = [f'run.folder="{folder.as_posix()}"', f'detail.model="{(folder / "face_model.safetensors").as_posix()}"']
    return load_settings(TOY, [*here, *changes])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small lose by waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage ran once."""
    folder = tmp_path_factory.mktemp("training")
    for stage in ("data", "autoencoder", "diffusion", "export", "detail", "extra"):
        run(stage, settings_in(folder))
    return folder


def mean_of(lines: list[dict[str, float]], name: str) -> float:
    return sum(line[name] for line in lines) / len(lines)


@pytest.mark.parametrize(("log", "name", "factor"), [("autoencoder", "l1", 0.75), ("diffusion", "v", 0.8)])
def test_losses_fall(trained: Path, log: str, name: str, factor: float):
    lines = read_log(trained / f"{log}.jsonl")
    assert len(lines) == 30
    assert mean_of(lines[-5:], name) < factor * mean_of(lines[:5], name)


def test_pictures_to_look_at_are_written(trained: Path):
    for name in ("autoencoder", "autoencoder_curves", "diffusion", "diffusion_curves", "detail", "detail_curves"):
        assert (trained / f"{name}.png").stat().st_size > 500


def test_the_exported_file_loads_and_decodes_like_the_trained_network(trained: Path):
    model = load_face_model(trained / "face_model.safetensors")
    assert model.resolution == 32
    _, autoencoder, _ = load_trained(settings_in(trained))
    images = OvalSource(32).draw(0, 4).float() / 127.5 - 1
    latents = model.autoencoder.encode(images)
    assert 0.6 < float(latents.std()) < 1.5
    exported, original = model.autoencoder.decode(latents), autoencoder.decode(autoencoder.encode(images))
    assert float((exported - original).pow(2).mean().sqrt()) < 0.05
    tokens = model.encode_tokens((images + 1) / 2)
    assert tokens.shape == (4, 5, 768)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(model.denoiser(latents + noise, 1.0, tokens)).all()
    assert len(model.denoiser.schedule) == 1000


def test_the_detail_head_is_found_beside_the_model_and_enlarges_like_the_trained_network(trained: Path):
    model = load_face_model(trained / "face_model.safetensors")
    crops = OvalSource(32).draw(0, 2).float() / 255.0
    enlarged = model.enlarge(crops)
    assert enlarged.shape == (2, 3, 64, 64)
    assert not torch.allclose(enlarged, twice(crops), atol=1e-4)
    state = load_checkpoint(trained / "detail.pt")["state"]
    for name, value in model.extra.detail.state_dict().items():
        torch.testing.assert_close(value, (state["model"] | state["average"])[name], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion", "detail"])
def test_a_resumed_run_equals_an_uninterrupted_one(trained: Path, tmp_path: Path, stage: str):
    short = ("autoencoder.steps=12", "autoencoder.adversarial_from=4", "diffusion.steps=12", "detail.steps=12")
    results = []
    for name, pauses in (("at once", [12]), ("in parts", [5, 12])):
        folder = tmp_path / name
        folder.mkdir()
        needs = {"autoencoder": [], "diffusion": ["autoencoder.pt"], "detail": ["face_model.safetensors"]}[stage]
        for file in ("faces.npy", "faces.json", *needs):
            (folder / file).write_bytes((trained / file).read_bytes())
        for pause in pauses:
            stop_at(pause, stage, settings_in(folder, *short))
        results.append(load_checkpoint(folder / f"{stage}.pt"))
        assert [line["step"] for line in read_log(folder / f"{stage}.jsonl")] == [2, 4, 6, 8, 10, 12]
    assert results[0]["step"] == results[1]["step"] == 12
    for part in ("model", "average"):
        for name, value in results[0]["state"][part].items():
            torch.testing.assert_close(value, results[1]["state"][part][name], rtol=0, atol=0, msg=name)


def stop_at(step: int, stage: str, settings: Settings) -> None:
    """Run a stage up to a step, as if it had been told to stop there."""
    import training.__main__ as commands

    def run_until(trained: object, *rest: object) -> int:
        planned, trained.steps = trained.steps, step
        real = trained.train_step

        def train_step(number: int) -> dict[str, Tensor]:
            trained.steps = planned
            figures = real(number)
            trained.steps = step
            return figures

        trained.train_step = train_step
        return run_stage(trained, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "run_stage", run_until)
        run(stage, settings)


def test_a_time_limit_stops_and_leaves_a_checkpoint(trained: Path, tmp_path: Path):
    for file in ("faces.npy", "faces.json"):
        (tmp_path / file).write_bytes((trained / file).read_bytes())
    run("autoencoder", settings_in(tmp_path), minutes=0.0)
    assert load_checkpoint(tmp_path / "autoencoder.pt")["step"] == 0


def test_a_decoder_trained_alone_leaves_encoder_and_latents(trained: Path, tmp_path: Path):
    for file in ("faces.npy", "faces.json"):
        (tmp_path / file).write_bytes((trained / file).read_bytes())
    start = trained / "face_model.safetensors"
    changes = (f'autoencoder.start_from="{start.as_posix()}"', 'autoencoder.trainable="decoder"', "autoencoder.steps=3")
    settings, before = settings_in(tmp_path, *changes), load_face_model(start)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(make_autoencoder(settings)[1].decode(latents), before.autoencoder.decode(latents))
    for stage in ("autoencoder", "export"):
        run(stage, settings)
    after = load_face_model(tmp_path / "face_model.safetensors")
    images = OvalSource(32).draw(0, 2).float() / 127.5 - 1
    assert torch.equal(after.autoencoder.encode(images), before.autoencoder.encode(images))
    assert not torch.equal(after.autoencoder.decode(latents), before.autoencoder.decode(latents))
    for name, value in before.denoiser.unet.state_dict().items():
        assert torch.equal(value, after.denoiser.unet.state_dict()[name])


def test_an_autoencoder_alone_can_be_carried_elsewhere(trained: Path, tmp_path: Path):
    """A file without a UNet is what the diffusion stage of another machine starts from."""
    for file in ("faces.npy", "faces.json", "autoencoder.pt"):
        (tmp_path / file).write_bytes((trained / file).read_bytes())
    run("export", settings_in(tmp_path))
    carried = (tmp_path / "face_model.safetensors").rename(tmp_path / "carried.safetensors")
    (tmp_path / "autoencoder.pt").unlink()
    settings = settings_in(tmp_path, f'autoencoder.start_from="{carried.as_posix()}"', "diffusion.steps=2")
    run("diffusion", settings)
    run("export", settings)
    model = load_face_model(tmp_path / "face_model.safetensors")
    latents = model.autoencoder.encode(OvalSource(32).draw(0, 8).float() / 127.5 - 1)
    assert 0.6 < float(latents.std()) < 1.5


def test_every_parameter_of_unet_and_tokens_gets_a_gradient(trained: Path):
    settings = settings_in(trained)
    state = load_checkpoint(trained / "diffusion.pt")["state"]
    file = load_face_model(trained / "face_model.safetensors")
    tokens, unet = file.token_head.requires_grad_(True), file.denoiser.unet.requires_grad_(True)
    latents = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    model = Denoising(unet, tokens)
    predicted = model(latents, torch.tensor([1, 300, 600, 999]), latents, torch.tensor([False, True, False, False]))
    predicted.square().sum().backward()
    assert set(state["model"]) == {name for name, _ in model.named_parameters()}
    assert settings.diffusion.drop_condition > 0
    for name, parameter in model.named_parameters():
        assert float(parameter.grad.abs().sum()) > 0, name


def test_a_bfloat16_twin_computes_and_the_module_keeps_float32():
    module = nn.Linear(8, 4)
    twin = HalfTwin(module, active=True)
    with torch.no_grad():
        module.weight.mul_(2.0)
    twin.refresh()
    assert torch.equal(twin.net.weight, module.weight.bfloat16())
    twin.net(torch.ones(3, 8, dtype=torch.bfloat16)).sum().backward()
    twin.hand_over_gradients()
    assert module.weight.grad.dtype == torch.float32
    torch.testing.assert_close(module.weight.grad, torch.full((4, 8), 3.0))
    assert HalfTwin(module, active=False).net is module


def test_eight_bits_keep_a_matrix_within_half_a_step():
    weight = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 16).view(-1, 1, 1, 1)
    whole, scale = quantise(weight)
    error = (whole * scale.view(-1, 1, 1, 1) - weight).pow(2).mean((1, 2, 3)).sqrt()
    assert whole.dtype == torch.int8
    assert bool((error < 0.5 * weight.abs().amax((1, 2, 3)) / 127).all())


def test_views_put_landmarks_where_the_face_is():
    """A dot painted at the template's nose stays under the landmark, whatever the view."""
    settings = build_settings({"data": {"held_out": 0, "zoom": 0.3, "colour": 0.0}}).data
    pictures = torch.zeros(1, 3, 100, 100, dtype=torch.uint8)
    pictures[:, :, 59:63, 48:52] = 255  # the template's nose, 0.5 and 0.6157 of the side
    pool = FacePool(pictures, settings)
    for step in range(8):
        views = pool.draw(step_generator(0, step), 4, 64, torch.device("cpu"))
        bright = (views.images.mean(1) + 1) / 2
        axis = torch.arange(64.0)
        y = (bright.sum(2) * axis).sum(1) / bright.sum((1, 2))
        x = (bright.sum(1) * axis).sum(1) / bright.sum((1, 2))
        torch.testing.assert_close(torch.stack([x, y], 1), views.landmarks5[:, 2], rtol=0, atol=0.8)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match=r"autoencoder\.stepz"):
        build_settings({"autoencoder": {"stepz": 3}})


def test_every_settings_file_is_valid():
    files = sorted(TOY.parent.glob("*.toml"))
    assert len(files) >= 2
    for file in files:
        assert dataclasses.is_dataclass(load_settings(file))
