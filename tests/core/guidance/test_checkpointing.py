"""Checkpointed decoders: the same gradient, less memory, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder
from faceprivacy_core.diffusion.checkpointing import checkpointed_blocks, checkpointed_decode, find_blocks
from faceprivacy_core.errors import UnsupportedModelError
from faceprivacy_core.guidance.gradient import Decode, energy_gradient
from tests.core.guidance.toys import PeakMemory, energy_for

Made = tuple[nn.Module, Decode]


CONFIG = AutoencoderConfig(
    side=64, latent_channels=4, patch=2, channels=(16, 24, 32), encoder_blocks=(1, 1, 1), style_channels=(8, 8, 16),
    decoder_channels=(64, 64, 64, 64, 64), head_channels=16,
)  # fmt: skip


def built_in() -> Made:
    network = FaceAutoencoder(CONFIG).eval().requires_grad_(False)
    return network, lambda z: torch.sigmoid(network.decode(z))


def diffusers_kl() -> Made:
    network = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(16, 16), norm_num_groups=8,
        layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval().requires_grad_(False)  # fmt: skip
    return network, lambda z: torch.sigmoid(network.decode(z).sample)


MAKERS = [built_in, diffusers_kl]


def own_forwards(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("make", MAKERS)
def test_gradient_is_the_same_and_needs_less_memory(make: Callable[[], Made]):
    torch.manual_seed(0)
    network, decode = make()
    latents = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        side = decode(latents).shape[-1]
    energy = energy_for(torch.rand(1, 3, side, side), floor=-1.0)
    with PeakMemory() as plain:
        expected, _ = energy_gradient(latents, decode, energy)
    with PeakMemory() as light:
        gradient, _ = energy_gradient(latents, checkpointed_decode(decode, network), energy)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0
    assert light.peak < 0.7 * plain.peak, (light.peak, plain.peak)


@pytest.mark.parametrize("make", MAKERS)
def test_blocks_are_the_residual_and_attention_blocks_of_the_decoder(make: Callable[[], Made]):
    network, _ = make()
    decoder = network.dec if isinstance(network, FaceAutoencoder) else network.decoder
    names = sorted(type(block).__name__ for block in find_blocks(decoder))
    expected = ["PixelHead", "StyleReader"] + ["StyledBlock"] * 4 if make is built_in else ["Attention"] + ["ResnetBlock2D"] * 8
    assert names == expected


@pytest.mark.parametrize("make", MAKERS)
def test_network_is_restored_after_use_and_after_an_exception(make: Callable[[], Made]):
    network, _ = make()
    with checkpointed_blocks(network) as blocks:
        assert set(own_forwards(network)) == set(blocks)
    assert own_forwards(network) == []
    with pytest.raises(torch.OutOfMemoryError), checkpointed_blocks(network):
        raise torch.OutOfMemoryError("full")
    assert own_forwards(network) == []


def test_a_forward_that_somebody_else_replaced_is_put_back():
    network, _ = built_in()
    block = find_blocks(network)[0]
    theirs = block.forward
    block.forward = theirs
    with checkpointed_blocks(network), checkpointed_blocks(network):
        assert block.forward is not theirs
    assert block.forward is theirs


def test_without_gradient_and_inside_inference_mode_images_are_the_same():
    network, decode = built_in()
    latents = torch.randn(1, 4, 8, 8)
    light = checkpointed_decode(decode, network)
    with torch.inference_mode():
        assert torch.equal(light(latents), decode(latents))


def test_a_network_without_blocks_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"found none in Conv2d.*memory: normal"):
        checkpointed_decode(lambda z: z, nn.Conv2d(4, 3, 1))
