"""A loss that is differentiated where it is computed is the same loss, and keeps nothing."""

import gc
import weakref

import torch

from faceprivacy_core.adversarial.immediate import differentiated_now


def _images() -> torch.Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(True)


def _loss(images: torch.Tensor) -> torch.Tensor:
    return (images.sin() * images).flatten(1).sum(dim=1)


def test_a_loss_differentiated_now_has_the_same_gradient_and_keeps_no_graph():
    kept: list[weakref.ref[torch.Tensor]] = []

    def noted(images: torch.Tensor) -> torch.Tensor:
        between = images.sin()
        kept.append(weakref.ref(between))
        return (between * images).flatten(1).sum(dim=1)

    images, factors = _images(), torch.tensor([1.0, 0.0, -2.5], dtype=torch.float64)
    losses = differentiated_now(noted, images)
    gc.collect()
    assert kept[0]() is None
    torch.testing.assert_close(losses.detach(), _loss(images).detach())
    found = torch.autograd.grad((factors * losses).sum(), images)[0]
    torch.testing.assert_close(found, torch.autograd.grad((factors * _loss(images)).sum(), images)[0])


def test_without_a_gradient_the_loss_is_computed_alone():
    with torch.no_grad():
        assert not differentiated_now(_loss, _images()).requires_grad
    assert not differentiated_now(_loss, _images().detach()).requires_grad
