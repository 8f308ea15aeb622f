"""Sharpness follows the photograph: matched where it can be, never lowered, bounded, each picture by itself."""

import pytest
import torch
from torch.nn.functional import conv2d, pad

from faceprivacy_core.texture import MAX_AMOUNT, gaussian_blur, laplacian, match_sharpness

WEIGHT = torch.ones(1, 1, 48, 48)


def picture(seed: int, blur: float = 1.5) -> torch.Tensor:
    noise = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) - 0.5
    return 0.5 + 0.5 * gaussian_blur(noise, blur)


def variance(images: torch.Tensor) -> torch.Tensor:
    return laplacian(images).square().mean((1, 2, 3))


@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.05, 5.1])
def test_a_blur_is_the_convolution_with_a_gaussian(sigma: float):
    images, reach = torch.rand(2, 3, 40, 40, requires_grad=True), max(1, round(3 * sigma))
    line = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, -1, -1)
    expected = conv2d(pad(images, (reach,) * 4, mode="replicate"), kernel, groups=3)
    blurred = gaussian_blur(images, sigma)
    torch.testing.assert_close(blurred, expected, rtol=0, atol=3e-6)
    (ours,), (theirs,) = (torch.autograd.grad(one.square().sum(), images) for one in (blurred, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-5)


def test_a_softer_picture_gets_the_sharpness_of_the_reference():
    reference = picture(0)
    matched = match_sharpness(gaussian_blur(reference, 0.7), reference, WEIGHT)
    torch.testing.assert_close(variance(matched), variance(reference), rtol=0.01, atol=0.0)


def test_a_sharper_picture_and_an_equal_one_stay_as_they_are():
    reference = picture(0)
    assert torch.equal(match_sharpness(reference, gaussian_blur(reference, 1.0), WEIGHT), reference)
    torch.testing.assert_close(match_sharpness(reference, reference, WEIGHT), reference, rtol=0, atol=1e-5)


def test_detail_that_is_not_there_is_not_made_up():
    flat = torch.full((1, 3, 48, 48), 0.4)
    assert torch.equal(match_sharpness(flat, picture(1), WEIGHT), flat)
    soft = gaussian_blur(picture(2), 3.0)
    raised = match_sharpness(soft, torch.rand(1, 3, 48, 48), WEIGHT) - soft
    detail = soft - gaussian_blur(soft, 1.0)
    assert float((raised - MAX_AMOUNT * detail).abs().max()) < 1e-5


def test_every_picture_of_a_batch_is_matched_by_itself():
    references = torch.cat([picture(3), picture(4, blur=1.0)])
    images = gaussian_blur(torch.cat([references, references.flip(-1)]), 0.6)
    together = match_sharpness(images, references, WEIGHT)
    for index in range(4):
        alone = match_sharpness(images[index : index + 1], references[index % 2 : index % 2 + 1], WEIGHT)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_the_blur_keeps_the_mean_and_a_constant(sigma: float):
    constant = torch.full((1, 2, 16, 16), 0.3)
    torch.testing.assert_close(gaussian_blur(constant, sigma), constant)
