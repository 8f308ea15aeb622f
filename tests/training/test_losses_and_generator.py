"""The losses agree with the metrics of the pack; the generator is read as it is and becomes a decoder."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder
from faceprivacy_core.builtin.styled import inverse_haar
from training.autoencoder import take_prior
from training.features import BLOCK, FeatureBasis
from training.generator import Generator, load_generator, pack_generator


def write_package(folder: Path, generator: Generator) -> None:
    """Write the constants of a generator as the package's two files hold them, fixed ones between."""

    def unsorted(layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
        count = layer.weight.shape[0] // 4
        order = torch.cat([torch.arange(count), count + torch.arange(3 * count).view(3, count).T.flatten()])
        return layer.weight[order], layer.bias[order]

    slope, tile = torch.full((1,), 0.2), torch.ones(4, 1, 1, 2, 1)
    mapping = [part for layer in generator.mapping for part in (slope, layer.weight, layer.bias)]
    raised = {id(before) for before, after in itertools.pairwise(generator.blocks) if after.band_style is not None}
    synthesis = [generator.head_style.weight * 2, generator.head_style.bias[None] * 2, torch.full((1, 1, 1, 1), 0.5)]
    for block in reversed(generator.blocks):
        synthesis += [block.style.weight * 4, block.style.bias[None] * 4, torch.full((1, 1, 1, 1), 0.25)]
        if block.band_style is not None:
            weight, bias = unsorted(block.band_style)
            synthesis += [weight, bias[None]]
    synthesis.append(generator.start)
    for block in generator.blocks:
        weight, bias = unsorted(block.mix) if id(block) in raised else (block.mix.weight, block.mix.bias)
        kernel = [] if block.depthwise is None else [block.depthwise.weight[:, None]]
        synthesis += [tile, *kernel, weight, block.noise, bias.view(1, -1, 1, 1), slope]
    weight, bias = unsorted(generator.head)
    synthesis += [weight, bias.view(1, -1, 1, 1)]
    for part, values in (("Mapping", mapping), ("Synthesis", synthesis)):
        layers, blob = [], b""
        for number, value in enumerate(values):
            shape = ",".join(map(str, value.shape))
            data = f'element_type="f32" shape="{shape}" offset="{len(blob)}" size="{4 * value.numel()}"'
            layers.append(f'<layer id="{number}" name="n{number}" type="Const"><data {data}/></layer>')
            blob += value.contiguous().numpy().tobytes()
        folder.joinpath(f"{part}Network.xml").write_text(f"<net><layers>{''.join(layers)}</layers></net>", encoding="utf-8")
        folder.joinpath(f"{part}Network.bin").write_bytes(blob)


def test_a_generator_is_read_from_the_packages_files_and_packed(tmp_path: Path):
    torch.manual_seed(0)
    made = Generator()
    for block in made.blocks:
        torch.nn.init.normal_(block.noise)
    with torch.no_grad():
        write_package(tmp_path, made)
        read = load_generator(tmp_path)
        pack_generator(tmp_path, tmp_path / "packed.safetensors")
        packed = load_generator(tmp_path / "packed.safetensors")
    for name, value in made.state_dict().items():
        if name != "mean_style":
            torch.testing.assert_close(read.state_dict()[name], value, msg=name)
            torch.testing.assert_close(packed.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)
    styles = read.draw_styles([5, 6], (0.6, 1.0))
    torch.testing.assert_close(read.draw_styles([6], (0.6, 1.0)), styles[1:])
    features = read.features(styles, BLOCK)
    assert features.shape == (2, 512, 16, 16)
    torch.testing.assert_close(read.features(styles, 6), read.features(styles, 6, BLOCK + 1, features))


def test_what_is_no_generator_is_refused(tmp_path: Path):
    with pytest.raises(SystemExit, match="Expected the generator at"):
        load_generator(tmp_path / "nothing.safetensors")


def test_the_inverse_haar_transform_undoes_the_transform_and_keeps_the_energy():
    picture = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    a, b, c, d = (picture[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    bands = [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    transformed = torch.cat([0.5 * band for band in bands], dim=1)
    torch.testing.assert_close(inverse_haar(transformed), picture)
    torch.testing.assert_close(transformed.square().sum(), picture.square().sum())


def test_the_basis_finds_the_components_of_features():
    torch.manual_seed(0)
    basis = FeatureBasis(torch.randn(6), torch.linalg.qr(torch.randn(6, 2))[0] * 3.0)
    latents = torch.randn(2, 2, 4, 4)
    features = torch.einsum("bchw,fc->bfhw", latents, basis.components) + basis.mean.view(1, -1, 1, 1)
    torch.testing.assert_close(basis.project(features), latents)


def test_a_decoder_that_took_the_prior_draws_the_generators_features():
    torch.manual_seed(0)
    generator, model = Generator(), FaceAutoencoder(AutoencoderConfig())
    basis = FeatureBasis(torch.randn(512), torch.linalg.qr(torch.randn(512, 32))[0])
    take_prior(model, generator, basis)
    latents, styles = torch.randn(1, 32, 16, 16), torch.randn(1, 512)
    features = torch.einsum("bchw,fc->bfhw", latents, basis.components) + basis.mean.view(1, -1, 1, 1)
    with torch.no_grad():
        x = model.dec.lift(latents)
        torch.testing.assert_close(x, features, rtol=1e-4, atol=1e-4)
        for block in model.dec.blocks:
            x = block(x, styles)
        torch.testing.assert_close(x, generator.features(styles, 10, BLOCK + 1, features), rtol=1e-3, atol=1e-3)


@pytest.mark.weights
def test_the_perceptual_loss_is_the_metric():
    from faceprivacy_core.metrics.perceptual import load_perceptual
    from training.losses import load_perceptual_loss

    draw = np.random.default_rng(0)
    pair = [draw.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(2)]
    images = [torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in pair]
    with torch.no_grad():
        loss = load_perceptual_loss(torch.device("cpu"))(*images)
    # The metric enlarges each layer's map before averaging, so the means differ a little.
    assert float(loss) == pytest.approx(float(load_perceptual().compute_map(*pair).mean()), rel=0.02)


@pytest.mark.weights
def test_the_identity_loss_is_the_recognisers_similarity():
    from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, load_recognizer
    from training.losses import load_identity_loss
    from training.pictures import FacePool, step_generator
    from training.settings import DataSettings

    pictures = torch.randint(0, 256, (4, 3, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    smooth = F.interpolate(pictures.float(), scale_factor=6, mode="bicubic").clamp(0, 255).to(torch.uint8)
    views = FacePool(smooth, DataSettings(held_out=0)).draw(step_generator(0, 0), 2, 128, torch.device("cpu"))
    other = views.images.flip(2)
    loss = load_identity_loss(torch.device("cpu"))
    recognizer = load_recognizer("mobilefacenet-v1")
    assert recognizer.name not in DEFAULT_HELD_OUT
    with torch.no_grad():
        before, after = (recognizer.embed((images + 1) / 2, views.landmarks5) for images in (views.images, other))
        measured = loss(other, views.images, views.landmarks5)
    torch.testing.assert_close(measured, 1 - (before * after).sum(1), rtol=0, atol=0.05)
