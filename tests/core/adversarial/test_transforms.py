"""Changes an attack shall survive: real, differentiable, and drawn by seeds of their own."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from faceprivacy_core.adversarial.transforms import (
    Change,
    TransformSettings,
    blur,
    jpeg,
    move,
    resize_and_back,
    transform_copy,
)
from faceprivacy_core.align import warp
from faceprivacy_core.errors import InputError
from tests.core.adversarial.toys import pictures


@pytest.mark.parametrize("kind", Change)
def test_every_kind_changes_a_picture_and_gives_a_gradient(kind: Change):
    images = pictures(2).requires_grad_(True)
    changed = transform_copy(images, [1, 2], 0, TransformSettings(kinds=(kind,)))
    (gradient,) = torch.autograd.grad(changed.pow(2).sum(), images)
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    assert float((changed - images).detach().abs().mean()) < 0.1
    assert bool((gradient.flatten(1).abs().amax(dim=1) > 0).all())
    assert 0.0 <= float(changed.detach().min()) <= float(changed.detach().max()) <= 1.0


def test_a_draw_follows_from_seed_and_number_alone():
    images, settings = pictures(3), TransformSettings()
    together = transform_copy(images, [5, 6, 7], 4, settings)
    torch.manual_seed(9)
    for row in range(3):
        assert torch.equal(transform_copy(images[row : row + 1], [5 + row], 4, settings)[0], together[row])
    draws = [transform_copy(images[:1], [5], number, settings) for number in range(12)]
    assert not all(torch.equal(draws[0], other) for other in draws[1:])


def test_jpeg_is_the_codecs_picture_and_passes_gradients_straight_through():
    images = pictures(1).requires_grad_(True)
    changed = jpeg(images, 50)
    file = io.BytesIO()
    pixels = (images.detach()[0] * 255.0).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=50)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255.0
    torch.testing.assert_close(changed.detach()[0], expected, rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(changed.sum(), images)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_changes_of_size_nothing_are_nothing():
    images = pictures(1)
    torch.testing.assert_close(resize_and_back(images, 1.0), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(move(images, 0.0, 0.0, (0.0, 0.0)), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(blur(images, 0.05), images, rtol=0, atol=1e-5)


def test_a_shift_moves_to_the_right_and_down_and_zoom_enlarges():
    images = pictures(1)
    moved = move(images, 0.0, 0.0, (8 / 64, 4 / 64))
    torch.testing.assert_close(moved[..., 4:, 8:], images[..., :-4, :-8], rtol=0, atol=1e-5)
    larger = move(images, 0.0, 1.0, (0.0, 0.0))
    inverse = np.array([[0.5, 0.0, 31.5 / 2], [0.0, 0.5, 31.5 / 2]])
    torch.testing.assert_close(larger, warp(images, inverse, (64, 64)))


@pytest.mark.parametrize(
    "options",
    [
        {"copies": 0},
        {"kinds": ()},
        {"scale": (0.9, 0.4)},
        {"scale": (0.0, 0.5)},
        {"blur_px": (0.0, 1.0)},
        {"quality": (60, 101)},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object]):
    with pytest.raises(InputError, match="at least one copy and one kind"):
        TransformSettings(**options)
