"""Faces that travel in noise: exact inverses, wrong keys, and the weaknesses of the sign flip."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from faceprivacy_core.diffusion.inversion import invert_euler
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas
from faceprivacy_core.errors import NumericalError
from faceprivacy_core.keyed.covers import draw_independent
from faceprivacy_core.keyed.decoder_inversion import invert_decoder
from faceprivacy_core.keyed.derivation import FaceKey
from faceprivacy_core.keyed.keystream import Keystream
from faceprivacy_core.keyed.transports import decrypt_noise, encrypt_noise, flip_signs
from tests.support.keyed import RAW_KEY, MixtureKeyedModel, background_of, cosine, face_cells

STEPS, ITERATIONS = 50, 20
CELLS = face_cells()
KEY, OTHER = FaceKey(RAW_KEY), FaceKey(bytes(32))


@pytest.fixture(scope="module")
def model() -> MixtureKeyedModel:
    return MixtureKeyedModel()


def face_rms(a: Tensor, b: Tensor) -> float:
    return float(((a - b)[CELLS.expand_as(a) > 0] ** 2).mean().sqrt())


def test_the_right_key_brings_the_latent_back(model: MixtureKeyedModel):
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    visible, moments = encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)
    assert face_rms(visible, face) > 0.1  # another face is seen
    recovered = decrypt_noise(model, visible, background, KEY, moments, STEPS, ITERATIONS)
    assert face_rms(recovered, face) <= 1e-6
    with pytest.raises(NumericalError, match="residual"):
        decrypt_noise(model, visible, background, KEY, moments, STEPS, 0)


def test_the_inverse_of_held_sampling_shrinks_with_iterations(model: MixtureKeyedModel):
    crop = model.draw_crop(2)
    background = background_of(model, crop)
    sigmas = ddim_sigmas(NoiseSchedule.scaled_linear(), STEPS)
    latent = background.restore(model.encode(crop), 0.0).double()
    errors = []
    for iterations in (0, 1, 3, 10):
        inversion = invert_euler(model.denoise, latent, sigmas, None, iterations=iterations, background=background)
        back = sample_euler(model.denoise, inversion.noise, sigmas, None, background=background)
        errors.append(face_rms(back, latent))
        held = background.latent + float(sigmas[0]) * background.noise
        outside = CELLS.expand_as(latent) == 0
        torch.testing.assert_close(inversion.noise[outside].float(), held[outside], rtol=1e-5, atol=1e-4)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]


def test_another_key_gives_another_face(model: MixtureKeyedModel):
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    visible, moments = encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)
    for number in range(1, 11):
        wrong = decrypt_noise(model, visible, background, FaceKey(bytes([number] * 32)), moments, STEPS, ITERATIONS)
        assert torch.isfinite(wrong).all()
        assert face_rms(wrong, face) >= 0.8 * face_rms(visible, face)


def test_the_surroundings_of_both_are_the_public_ones(model: MixtureKeyedModel):
    crop = model.draw_crop(3)
    background = background_of(model, crop)
    visible, _ = encrypt_noise(model, model.encode(crop), background, KEY, STEPS, ITERATIONS)
    outside = CELLS.expand_as(visible) == 0
    assert torch.equal(visible[outside], background.latent[outside])


def test_a_map_too_steep_to_invert_is_said():
    steep = MixtureKeyedModel(steepness=40.0)
    crop = steep.draw_crop(1)
    with pytest.raises(NumericalError, match="residual"):
        encrypt_noise(steep, steep.encode(crop), background_of(steep, crop), KEY, 20, 5)


def test_an_independent_cover_depends_on_key_nonce_and_surroundings_alone(model: MixtureKeyedModel):
    surroundings = background_of(model, model.draw_crop(1)).latent
    nonces = [bytes(16)]

    def draw(key: FaceKey, nonce: bytes) -> Tensor:
        return draw_independent(model, surroundings, CELLS, [key], [nonce], 20)

    first = draw(KEY, nonces[0])
    assert torch.equal(first, draw(KEY, nonces[0]))
    assert not torch.equal(first, draw(OTHER, nonces[0]))
    assert not torch.equal(first, draw(KEY, b"1" * 16))


def test_covers_of_a_batch_are_those_drawn_alone(model: MixtureKeyedModel):
    surroundings = torch.cat([background_of(model, model.draw_crop(seed)).latent for seed in (1, 2, 3)])
    keys, nonces = [KEY, OTHER, KEY], [bytes([number] * 16) for number in (1, 2, 3)]
    batch = draw_independent(model, surroundings, CELLS.repeat(3, 1, 1, 1), keys, nonces, 10)
    for index in range(3):
        part = slice(index, index + 1)
        alone = draw_independent(model, surroundings[part], CELLS, keys[part], nonces[part], 10)
        torch.testing.assert_close(batch[part], alone, rtol=0, atol=1e-4)


def test_the_sign_flip_keeps_magnitudes_and_its_own_trajectory(model: MixtureKeyedModel):
    """The paper's rule does not come back exactly: the second trajectory is another one."""
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    visible = flip_signs(model, face, CELLS, KEY, STEPS)
    outside = CELLS.expand_as(face) == 0
    assert torch.equal(visible[outside], face[outside])
    back = flip_signs(model, visible, CELLS, KEY, STEPS)
    ours, moments = encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)
    recovered = decrypt_noise(model, ours, background, KEY, moments, STEPS, ITERATIONS)
    assert face_rms(back, face) > 100 * face_rms(recovered, face)


def published_sign_flip(model: MixtureKeyedModel, z0: Tensor, signs: Tensor) -> Tensor:
    """Equations 3 to 7 of arXiv 2510.01031 as they stand there, in VP terms; the schedule is this package's.

    Every step of the inversion gives the network the latent it has, and tells it the level it goes to.
    """
    sigmas = ddim_sigmas(NoiseSchedule.scaled_linear(), STEPS).double().flip(0)
    alphas = (1.0 / (1.0 + sigmas**2)).tolist()  # alpha bar, 1 first

    def predict(z: Tensor, alpha: float) -> Tensor:
        sigma = ((1.0 - alpha) / alpha) ** 0.5
        x = z / alpha**0.5
        return (x - model.denoise(x, sigma)) / sigma

    def move(z: Tensor, noise: Tensor, alpha: float, to: float) -> Tensor:
        clean = (z - (1.0 - alpha) ** 0.5 * noise) / alpha**0.5
        return to**0.5 * clean + (1.0 - to) ** 0.5 * noise

    path = [z0]
    for low, high in pairwise(alphas):  # (5)
        path.append(move(path[-1], predict(path[-1], high), low, high))
    z = CELLS * signs * path[-1] + (1.0 - CELLS) * path[-1]  # (6)
    for index in range(len(alphas) - 1, 0, -1):
        z = move(z, predict(z, alphas[index]), alphas[index], alphas[index - 1])  # (4)
        z = CELLS * z + (1.0 - CELLS) * path[index - 1]  # (7)
    return z


def test_the_sign_flip_is_the_published_one(model: MixtureKeyedModel):
    face = model.encode(model.draw_crop(1))
    signs = torch.from_numpy(Keystream(KEY.subkey("signs")).signs(face.numel())).view_as(face)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    expected = published_sign_flip(model, face.double(), signs)
    torch.testing.assert_close(flip_signs(model, face, CELLS, KEY, STEPS).double(), expected, rtol=0, atol=1e-4)


def test_decoder_inversion_finds_the_latent_behind_pixels():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]

    def render(latent: Tensor) -> Tensor:
        return torch.sigmoid(torch.einsum("ij,bjhw->bihw", mixing, latent))[0]

    truth = torch.randn(1, 12, 5, 5, generator=generator)
    free = torch.zeros(1, 1, 5, 5)
    free[..., 1:4, 1:4] = 1.0
    start = torch.where(free > 0, truth + 0.3 * torch.randn(truth.shape, generator=generator), truth)
    found = invert_decoder(render, render(truth), torch.ones(5, 5), start, free, steps=200)
    assert float((found - truth).norm()) < 0.05 * float((start - truth).norm())
    assert torch.equal(found[(free == 0).expand_as(found)], truth[(free == 0).expand_as(found)])
    none = invert_decoder(render, render(truth), torch.ones(5, 5), start, free, steps=0)
    assert torch.equal(none, start)


def test_noise_of_a_face_is_unrelated_to_that_of_its_cover(model: MixtureKeyedModel):
    crop = model.draw_crop(1)
    face, background = model.encode(crop), background_of(model, crop)
    visible, _ = encrypt_noise(model, face, background, KEY, STEPS, ITERATIONS)
    sigmas = ddim_sigmas(NoiseSchedule.scaled_linear(), STEPS)
    vectors = []
    for latent in (face, visible):
        noise = invert_euler(model.denoise, latent, sigmas, None, iterations=ITERATIONS, background=background).noise
        vectors.append(noise[CELLS.expand_as(noise) > 0].double().numpy())
    bound = 5 / np.sqrt(len(vectors[0]))
    assert abs(cosine(*vectors)) < bound
    magnitudes = [np.abs(vector) - np.abs(vector).mean() for vector in vectors]
    assert abs(cosine(*magnitudes)) < bound
