"""Energies of identity: counts, symmetry, bounds and derivatives."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from faceprivacy_core.errors import InputError, UnsupportedModelError
from faceprivacy_core.faces.recognizers import SPECS, RecognizerSpec, TorchRecognizer
from faceprivacy_core.faces.sight import embed_all
from faceprivacy_core.guidance.build import EnergyWeights, build_energy
from faceprivacy_core.guidance.energies import (
    Diversity,
    IdentityEnergy,
    KeepIdentity,
    PushAway,
)
from faceprivacy_core.images import crop_faces, crop_landmarks
from tests.core.guidance.toys import RECOGNIZERS, decode, energy_for, picture
from tests.support.faces import one_face
from tests.support.recognizer import ProjectionRecognizer


@pytest.mark.parametrize("variants", [1, 2, 3, 4, 8])
def test_total_energy_counts_every_face_and_every_pair_once(variants: int):
    embedding = torch.ones(1, 16, dtype=torch.float64)
    same = embedding.repeat(variants, 1)
    push = PushAway((embedding,))((same,)).sum()
    pairs = Diversity(num_faces=1)((same,)).sum()
    assert push == pytest.approx(variants)
    assert pairs == pytest.approx(variants * (variants - 1) / 2)


@pytest.mark.parametrize("variants", [1, 2, 3, 8])
def test_total_energy_is_the_double_sum_of_the_paper(variants: int):
    faces = F.normalize(torch.randn(variants, 16, dtype=torch.float64), dim=1)
    reference = F.normalize(torch.randn(1, 16, dtype=torch.float64), dim=1)
    total = PushAway((reference,))((faces,)).sum() + Diversity(1)((faces,)).sum()
    expected = sum(max(0.0, float(face @ reference[0])) for face in faces)
    expected += sum(max(0.0, float(faces[i] @ faces[j])) for i in range(variants) for j in range(i + 1, variants))
    assert float(total) == pytest.approx(expected, abs=1e-12)


def test_energy_is_permutation_equivariant_and_not_negative():
    energy = energy_for(torch.rand(1, 3, 32, 32, dtype=torch.float64))
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    values = energy(images)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(energy(images[order]), values[order])
    assert bool((values >= 0).all())


def test_energy_and_gradient_vanish_when_all_similarities_are_below_zero():
    reference = torch.tensor([[1.0, 0.0, 0.0]])
    directions = [[-0.8, 0.6, 0.0], [-0.2, -0.5, 0.8], [-0.2, -0.5, -0.8]]
    found = torch.tensor(directions, requires_grad=True)
    assert bool(((found @ found.T).fill_diagonal_(-1.0) < 0).all())
    total = (PushAway((reference,))((found,)) + Diversity(1)((found,))).sum()
    total.backward()
    assert float(total.detach()) == 0.0
    assert float(found.grad.abs().max()) == 0.0


def test_variants_of_different_faces_do_not_repel_each_other():
    faces = torch.eye(2)
    found = torch.cat([faces, faces])  # two variants of two orthogonal faces
    values = Diversity(num_faces=2)((found,))
    torch.testing.assert_close(values, torch.full((4,), 0.5))
    mixed = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(Diversity(num_faces=2)((mixed,)).sum()) == 0.0


@pytest.mark.parametrize("variants", [1, 2, 3, 8])
def test_derivative_agrees_with_finite_differences(variants: int):
    torch.manual_seed(0)
    originals = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    references = embed_all(RECOGNIZERS, originals, torch.zeros(1, 5, 2))
    terms = (PushAway(references, -1.0), Diversity(1, -1.0, 0.5), KeepIdentity(references, weight=0.3))
    energy = IdentityEnergy(RECOGNIZERS, torch.zeros(1, 5, 2), 16, terms)
    latents = torch.randn(variants, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(decode(latents)).sum(), latents)
    direction = torch.randn_like(latents)
    step = 1e-5
    up, down = (energy(decode(latents.detach() + sign * step * direction)).sum() for sign in (1, -1))
    assert float((gradient * direction).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-3)


def test_kept_identity_is_between_0_and_2_and_0_only_for_parallel_vectors():
    reference = F.normalize(torch.randn(1, 16, dtype=torch.float64), dim=1)
    keep = KeepIdentity((reference,))
    found = torch.cat([3.0 * reference, -reference, torch.randn(50, 16, dtype=torch.float64)])
    values = keep((found,))
    assert float(values[0]) == pytest.approx(0.0, abs=1e-12)
    assert float(values[1]) == pytest.approx(2.0, abs=1e-12)
    assert bool(((values[2:] > 0.0) & (values[2:] < 2.0)).all())


def test_kept_identity_asks_for_no_more_than_its_ceiling():
    reference = torch.tensor([[1.0, 0.0]])
    close = torch.tensor([[0.8, 0.6]], requires_grad=True)
    value = KeepIdentity((reference,), ceiling=0.7)((close,))
    value.sum().backward()
    assert float(value.detach()) == float(close.grad.abs().max()) == 0.0


def test_descent_lowers_the_kept_identity_energy_in_every_step():
    original = picture(side=16, dtype=torch.float64)
    keep = KeepIdentity(embed_all(RECOGNIZERS, original, torch.zeros(1, 5, 2)))
    energy = IdentityEnergy(RECOGNIZERS, torch.zeros(1, 5, 2), 16, (keep,))
    latents = torch.randn(1, 4, 16, 16, dtype=torch.float64)
    values = []
    for _ in range(40):
        latents.requires_grad_(True)
        value = energy(decode(latents)).sum()
        (gradient,) = torch.autograd.grad(value, latents)
        latents = (latents - 2.0 * gradient).detach()
        values.append(float(value.detach()))
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_pixel_of_the_face_has_a_gradient_through_the_aligned_crop(spec: RecognizerSpec, size: int):
    """The released nearest-neighbour resizing reached 9.8 to 13.5 %."""
    images, crops = crop_faces(torch.rand(1, 3, 200, 300), one_face(), size)
    recognizer = TorchRecognizer(spec, nn.Identity(), "none", {})
    images.requires_grad_(True)
    aligned = recognizer.align(images, crop_landmarks(crops))
    (aligned * torch.rand_like(aligned)).sum().backward()
    inside = images.grad[0, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4]  # the box of the synthetic face
    assert float((inside != 0).float().mean()) >= 0.99


def test_a_batch_that_is_no_whole_number_of_variants_is_refused():
    with pytest.raises(InputError, match="multiple of 2"):
        energy_for(torch.rand(2, 3, 16, 16))(torch.rand(3, 3, 16, 16))


def test_the_energy_of_anonymising_is_highest_at_the_original_and_works_at_any_crop_size():
    original, crops = crop_faces(torch.rand(1, 3, 200, 300), one_face(), 64)
    energy = build_energy(original, crops, RECOGNIZERS, EnergyWeights(1.0, 0.0))
    assert float(energy(original)) == pytest.approx(1.0, abs=1e-5)
    larger = F.interpolate(original, (128, 128))
    assert float(energy(larger)) == pytest.approx(1.0, abs=1e-3)
    assert float(energy(1.0 - original)) < 0.5


def test_crops_that_do_not_belong_together_or_no_recogniser_are_refused():
    original, crops = crop_faces(torch.rand(1, 3, 200, 300), one_face(), 64)
    with pytest.raises(InputError, match="Expected 1 original crops"):
        build_energy(original.repeat(2, 1, 1, 1), crops, RECOGNIZERS, EnergyWeights(1.0, 1.0))
    with pytest.raises(InputError, match="at least one recogniser"):
        build_energy(original, crops, (), EnergyWeights(1.0, 1.0))


class Detached(ProjectionRecognizer):
    """A recogniser of another framework: its numbers have no history."""

    def embed(self, images: torch.Tensor, landmarks5: torch.Tensor) -> torch.Tensor:
        return super().embed(images, landmarks5).detach()


def test_a_recogniser_without_gradient_is_refused_by_name():
    original, crops = crop_faces(torch.rand(1, 3, 200, 300), one_face(), 64)
    with pytest.raises(UnsupportedModelError, match="gradients pass through, got opaque"):
        build_energy(original, crops, (*RECOGNIZERS, Detached("opaque")), EnergyWeights(1.0, 1.0))
