"""Shapes of published checkpoints, and the memory they take: by tensors without contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from faceprivacy_core import memory
from faceprivacy_core.diffusion.backends.checkpoint import Checkpoint
from faceprivacy_core.diffusion.backends.diffusers import DiffusersDenoiser
from faceprivacy_core.diffusion.backends.families import SD1, SD2, SDXL, Family
from faceprivacy_core.diffusion.backends.loading import load_checkpoint
from faceprivacy_core.diffusion.backends.words import TextEncoder, Words
from faceprivacy_core.diffusion.schedules import NoiseSchedule
from faceprivacy_core.errors import InputError
from tests.support.meta_memory import PeakMemory

GB = 1e9


def as_published(family: Family, resolution: int) -> Checkpoint:
    """Build a checkpoint of a family without contents."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        networks: list[Any] = [UNet2DConditionModel(**family.unet), AutoencoderKL(**family.vae)]
        for shape in family.text.values():
            networks.append((CLIPTextModelWithProjection if shape.pooled else CLIPTextModel)(CLIPTextConfig(**shape.config)))
    unet, vae, *texts = (network.eval().requires_grad_(False) for network in networks)
    encoders = {name: TextEncoder(text, shape) for (name, shape), text in zip(family.text.items(), texts, strict=True)}
    return Checkpoint("as published", family.name, resolution, DiffusersDenoiser(unet, NoiseSchedule.scaled_linear()), vae,
                      Words(encoders))  # fmt: skip


@pytest.fixture(scope="module")
def sd15() -> Checkpoint:
    return as_published(SD1, 512)


def count(network: Any) -> float:
    """Return millions of weights."""
    return round(sum(weight.numel() for weight in network.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("family", "unet", "text"),
    [(SD1, 859.52, [123.06]), (SD2, 865.91, [340.39]), (SDXL, 2567.46, [123.06, 694.66])],
    ids=lambda value: getattr(value, "name", None),
)
def test_networks_have_as_many_weights_as_those_published(family: Family, unet: float, text: list[float]):
    model = as_published(family, family.resolution)
    assert (count(model.denoiser.unet), count(model.vae)) == (unet, 83.65)
    assert [count(encoder.network) for encoder in model.words.encoders.values()] == text


@pytest.fixture(scope="module")
def peaks(sd15: Checkpoint) -> dict[str, int]:
    """The bytes that two faces of 512 pixels take at most, one at a time, beside the weights."""
    unet, tokens = sd15.denoiser.unet, torch.zeros(1, 77, 768, device="meta")

    def denoise(x: Tensor) -> Tensor:
        return unet(x, torch.tensor(1, device="meta"), tokens, return_dict=False)[0]

    found = {}
    latents = torch.zeros(2, 4, 64, 64, device="meta")
    with PeakMemory() as drawing, torch.no_grad():
        sd15.encode(torch.zeros(2, 3, 512, 512, device="meta"))
        sd15.decode(torch.cat([denoise(part) for part in latents.split(1)]))
    found["drawn"] = drawing.peak
    for name, through in (("guided", False), ("cloaked", True)):
        with PeakMemory() as pushed:
            for part in latents.split(1):
                z = part.clone().requires_grad_()
                torch.autograd.grad(sd15.decode(z - denoise(z) if through else z).sum(), z)
        found[name] = pushed.peak
    return found


def test_two_faces_of_sd15_fit_into_eight_gigabytes(sd15: Checkpoint, peaks: dict[str, int]):
    weights = memory.peak_bytes(sd15, 0)
    assert {name: weights + peak <= 8 * GB for name, peak in peaks.items()} == dict.fromkeys(peaks, True)
    assert 4.2 * GB < weights < 4.3 * GB


def test_the_estimate_is_never_too_small_and_not_much_too_large(sd15: Checkpoint, peaks: dict[str, int]):
    estimate = memory.drawing_bytes(sd15)
    assert max(peaks.values()) <= estimate <= 1.25 * max(peaks.values())


def test_two_at_a_time_need_more(sd15: Checkpoint, peaks: dict[str, int]):
    with PeakMemory() as both:
        z = torch.zeros(2, 4, 64, 64, device="meta", requires_grad=True)
        torch.autograd.grad(sd15.decode(z).sum(), z)
    assert both.peak > 1.8 * peaks["guided"]
    assert both.peak <= 2 * memory.drawing_bytes(sd15)


def test_as_many_at_a_time_as_free_memory_holds(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    model = load_checkpoint(checkpoints["sd1"])
    each = memory.drawing_bytes(model)
    for free, expected in ((0, 1), (each, 1), (3 * each, 2), (1000 * each, memory.MOST)):
        monkeypatch.setattr(memory, "free_bytes", lambda _, free=free: free)
        chosen, why = memory.choose_at_once(model)
        assert chosen.at_once == expected
        assert why.startswith(f"{expected} at a time (")
    chosen, why = memory.choose_at_once(model, 3)
    assert (chosen.at_once, why) == (3, "3 at a time, as asked for")
    with pytest.raises(InputError, match="at least one"):
        memory.choose_at_once(model, 0)
    assert model.at_once == 1
