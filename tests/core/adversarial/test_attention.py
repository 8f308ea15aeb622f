"""Check 8: what the recorder sees, and that it leaves no trace."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from faceprivacy_core.adversarial.structure import structure_distance
from faceprivacy_core.diffusion.attention import Maps, record_self_attention
from faceprivacy_core.errors import InputError, UnsupportedModelError
from tests.core.adversarial.toys import tiny_unet


def processors(unet: UNet2DConditionModel) -> dict[str, int]:
    return {name: id(processor) for name, processor in unet.attn_processors.items()}


def call(unet: UNet2DConditionModel, x: torch.Tensor) -> torch.Tensor:
    cond = torch.linspace(-1, 1, 5 * 16).view(1, 5, 16).expand(len(x), -1, -1)
    return unet(x, torch.tensor(100), cond, return_dict=False)[0]


def test_the_output_keeps_every_bit_and_the_rows_sum_to_one():
    unet, x = tiny_unet(), torch.randn(2, 4, 8, 8)
    without = call(unet, x)
    with record_self_attention(unet) as recording:
        assert torch.equal(call(unet, x), without)
        maps = recording.take()
    assert [tuple(part.shape) for part in maps] == 4 * [(2, 4, 64, 64)]
    for part in maps:
        torch.testing.assert_close(part.sum(dim=-1), torch.ones(part.shape[:-1]), rtol=0, atol=1e-4)
        assert part.dtype == torch.float32


def test_a_map_is_what_its_layer_computes():
    unet, x = tiny_unet(), torch.randn(1, 4, 8, 8)
    attn = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    seen: list[torch.Tensor] = []
    hook = attn.register_forward_hook(lambda layer, inputs, output: seen.extend([inputs[0], output]))
    with record_self_attention(unet) as recording:
        call(unet, x)
        found = recording.take()[1]
    hook.remove()
    values = attn.to_v(seen[0]).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    output = attn.to_out[0]((found @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(output, seen[1], rtol=1e-4, atol=1e-5)


def test_a_network_shaped_like_stable_diffusion_has_sixteen_maps():
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4
    ).eval()  # fmt: skip
    with record_self_attention(unet) as recording:
        call(unet, torch.randn(1, 4, 8, 8))
        assert len(recording.take()) == 16


def test_the_processors_are_back_after_use_and_after_an_exception():
    unet = tiny_unet()
    before = processors(unet)
    with record_self_attention(unet):
        assert processors(unet) != before
    assert processors(unet) == before
    with pytest.raises(ZeroDivisionError), record_self_attention(unet):
        raise ZeroDivisionError
    assert processors(unet) == before


def test_a_model_without_self_attention_and_an_empty_recording_are_refused():
    with pytest.raises(UnsupportedModelError, match="attn1, found none in Linear"), record_self_attention(nn.Linear(2, 2)):
        pass
    with record_self_attention(tiny_unet()) as recording, pytest.raises(UnsupportedModelError, match="recorded no map"):
        recording.take()


def test_taking_and_clearing_forget():
    maps = Maps()
    maps.add(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), 0.5)
    assert len(maps.take()) == 1
    maps.add(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), 0.5)
    maps.clear()
    with pytest.raises(UnsupportedModelError):
        maps.take()


def test_distance_is_the_sum_of_layer_means_and_rows_can_count_alike():
    maps = [torch.rand(2, 3, n, n) for n in (4, 8)]
    kept = [torch.rand(2, 3, n, n) for n in (4, 8)]
    means = [((a - b) ** 2).mean(dim=(1, 2, 3)) for a, b in zip(maps, kept, strict=True)]
    torch.testing.assert_close(structure_distance(maps, kept), means[0] + means[1])
    assert structure_distance(maps, maps).tolist() == [0.0, 0.0]
    for other in (kept[:1], [kept[1], kept[0]], []):
        with pytest.raises(InputError, match="the same self-attention layers"):
            structure_distance(maps, other)
