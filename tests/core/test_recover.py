"""Inverting real faces with the built-in model, and drawing them again from what was saved."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.diffusion.model import identity_of
from faceprivacy_core.embeddings.inversion import FaceInversion
from faceprivacy_core.errors import InputError, InversionModelError, InversionStepsError, NoFaceError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.images import cut
from faceprivacy_core.inversions.contents import UNPROTECTED, from_bytes, to_bytes
from faceprivacy_core.inversions.stored import conditions_of_tokens, stored_part
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.recover import invert_faces, recover_crops, recover_faces
from faceprivacy_core.rng import seeded_noise
from faceprivacy_core.types import Faces

PHOTO = Path(__file__).parents[2] / "docs" / "samples" / "two_people.jpg"
STEPS, ITERATIONS = 5, 2

pytestmark = pytest.mark.weights


@contextmanager
def evaluations(model: FaceModel) -> Iterator[list[int]]:
    """Record the batch size of every call of the denoiser's network."""
    calls: list[int] = []
    hook = model.denoiser.unet.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    try:
        yield calls
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    with Image.open(PHOTO) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((512, 320)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255.0


@pytest.fixture(scope="module")
def faces(picture: Tensor) -> Faces:
    pixels = (picture[0] * 255.0).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    found = detect_faces([pixels], load_detector(), Selection(Which.LARGEST))
    assert len(found) == 1
    return found


@pytest.fixture(scope="module")
def inverted(model: FaceModel, picture: Tensor, faces: Faces) -> tuple[FaceInversion, list[int]]:
    with evaluations(model) as calls:
        inversion = invert_faces(picture, faces, model, steps=STEPS, iterations=ITERATIONS)
    return inversion, calls


@pytest.fixture(scope="module")
def inversion(model: FaceModel, inverted: tuple[FaceInversion, list[int]]) -> FaceInversion:
    """What a file gives back."""
    data = to_bytes(stored_part(inverted[0]), UNPROTECTED)
    return from_bytes(data, UNPROTECTED).with_conditions(conditions_of_tokens(model.empty_tokens()))


@pytest.fixture(scope="module")
def recovered(model: FaceModel, inversion: FaceInversion) -> tuple[Tensor, list[int]]:
    with evaluations(model) as calls:
        crops = recover_crops(inversion, model)
    return crops, calls


def psnr(one: Tensor, other: Tensor) -> Tensor:
    return -10.0 * (one - other).square().flatten(1).mean(1).log10()


def round_trip(model: FaceModel, crops: Tensor) -> Tensor:
    with torch.no_grad():
        return ((model.autoencoder.decode(model.autoencoder.encode(crops * 2.0 - 1.0)) + 1.0) / 2.0).clamp(0.0, 1.0)


def test_faces_come_back_as_well_as_the_autoencoder_draws_them(
    model: FaceModel, picture: Tensor, inversion: FaceInversion, recovered: tuple[Tensor, list[int]]
):
    originals = cut(picture, inversion.crops)
    bound = psnr(round_trip(model, originals), originals)
    assert bool((psnr(recovered[0], originals) > bound - 1.5).all())
    assert bool((bound > 20.0).all())


def test_calls_of_the_model_are_as_many_as_promised(
    inverted: tuple[FaceInversion, list[int]], recovered: tuple[Tensor, list[int]]
):
    steps = inverted[0].noise.num_steps
    assert steps == STEPS
    assert inverted[1] == [1] * (steps * (1 + ITERATIONS))
    assert recovered[1] == [1] * steps


def test_the_file_is_what_was_inverted_under(inverted: tuple[FaceInversion, list[int]], inversion: FaceInversion):
    assert torch.equal(inverted[0].stages, inversion.stages), "Noise must be inverted under the tokens as they are stored."
    assert inverted[0].noise.residual == inversion.noise.residual < 0.2


def test_noise_has_about_unit_variance(inversion: FaceInversion):
    """Not exactly: the less the model knows such a picture, the farther from 1."""
    noise = inversion.noise.latent.flatten(1)
    assert bool(((noise.std(1) > 0.75) & (noise.std(1) < 1.35)).all())
    assert bool((noise.mean(1).abs() < 0.2).all())


def test_neither_part_alone_gives_the_picture_back(
    model: FaceModel, picture: Tensor, inversion: FaceInversion, recovered: tuple[Tensor, list[int]]
):
    originals = cut(picture, inversion.crops)
    random = seeded_noise([1], tuple(inversion.noise.latent.shape[1:]))
    other_noise = replace(inversion, noise=replace(inversion.noise, latent=random))
    no_tokens = replace(inversion, stages=inversion.empty[None])
    for changed in (other_noise, no_tokens):
        assert bool((psnr(recover_crops(changed, model), originals) < psnr(recovered[0], originals) - 3.0).all())


def test_recovered_faces_are_pasted_and_the_rest_keeps_its_bits(
    model: FaceModel, picture: Tensor, faces: Faces, inversion: FaceInversion
):
    protected = 1.0 - picture
    before = protected.clone()
    settings = MaskSettings(feather=0.0)
    result = recover_faces(protected, inversion, model, settings)
    assert torch.equal(protected, before)
    mask = draw_masks(faces, settings)[:, None]
    outside = (mask == 0).expand_as(result)
    assert torch.equal(result[outside], protected[outside])
    inside = (mask == 1).expand_as(result)
    assert float((result[inside] - picture[inside]).abs().mean()) < 0.06
    assert float((protected[inside] - picture[inside]).abs().mean()) > 0.2


def test_another_model_is_named_before_anything_is_drawn(model: FaceModel, inversion: FaceInversion):
    for part, weights in (("denoiser", model.denoiser.unet), ("autoencoder", model.autoencoder)):
        changed = copy.deepcopy(weights)
        with torch.no_grad():
            next(changed.parameters()).view(-1)[0] += 1e-3
        if part == "denoiser":
            denoiser = copy.copy(model.denoiser)
            denoiser.unet = changed
            other = replace(model, denoiser=denoiser)
        else:
            other = replace(model, autoencoder=changed)
        with evaluations(other) as calls, pytest.raises(InversionModelError, match=part):
            recover_crops(inversion, other)
        assert calls == []


def test_what_does_not_fit_is_refused_before_anything_is_drawn(model: FaceModel, picture: Tensor, inversion: FaceInversion):
    beyond = replace(inversion, noise=replace(inversion.noise, sigmas=(99.0, *inversion.noise.sigmas[1:])))
    with evaluations(model) as calls:
        with pytest.raises(InversionStepsError):
            recover_crops(inversion, model, steps=STEPS + 1)
        with pytest.raises(InversionStepsError):
            recover_crops(beyond, model)
        with pytest.raises(InputError, match="with a noise map, got one without"):
            recover_crops(replace(inversion, noise=None), model)
        with pytest.raises(InputError, match="crops of 256 pixels, got a noise map for 128"):
            recover_crops(replace(inversion, noise=replace(inversion.noise, latent=inversion.noise.latent[..., :8, :8])), model)
        with pytest.raises(InputError, match="crops of 512"):
            recover_crops(replace(inversion, crops=replace(inversion.crops, size=512)), model)
        with pytest.raises(InputError, match="placement"):
            recover_faces(picture, replace(inversion, crops=None), model)
        with pytest.raises(InputError, match="neither resized nor turned"):
            recover_faces(picture.transpose(2, 3), inversion, model)
        with pytest.raises(NoFaceError):
            invert_faces(picture, Faces((), 1, *picture.shape[-2:]), model)
    assert calls == []


def test_identity_changes_with_the_weights_only(model: FaceModel):
    identity = identity_of(model)
    assert identity == identity_of(load_face_model())
    assert len({identity.unet, identity.vae}) == 2
    assert identity.text_encoder == ""
