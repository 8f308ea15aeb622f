"""The multi-scale module: every parameter matters, and what it sees is the picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.embeddings.denoising import HELD_OUT, Lesson, draw
from faceprivacy_core.embeddings.learning import LearningSettings, TokenLearner
from faceprivacy_core.embeddings.msi import MsiTokens
from faceprivacy_core.embeddings.vision import autoencoder_features
from faceprivacy_core.errors import InputError
from tests.core.embeddings.told import WIDTH, ideal_errors, make_task, sample_crop

STAGES, COUNT = 10, 3
CHANNELS = (4, 4, 6, 6, 8)


def _features(num_faces: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(num_faces, 9, width, generator=generator) for width in CHANNELS]


def _tokens(num_faces: int = 2, first: int = 0, count: int = COUNT, width: int = WIDTH) -> MsiTokens:
    features = [scale[first : first + num_faces] for scale in _features(2)]
    generator = torch.Generator().manual_seed(5)
    start = {"l": torch.randn(count, width, generator=generator), "g": torch.randn(1, width + 2, generator=generator)}
    return MsiTokens(features, start, range(first, first + num_faces), STAGES)


def test_every_parameter_gets_a_gradient() -> None:
    source = _tokens()
    generator = torch.Generator().manual_seed(1)
    sum((entry.offsets * torch.randn(entry.offsets.shape, generator=generator)).sum() for entry in source().values()).backward()
    parameters = dict(source.named_parameters())
    assert len(parameters) > 40
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        # Not one number of the released module's kind, which no gradient ever reaches.
        assert float((parameter.grad != 0).float().mean()) > 0.99, name


def test_two_calls_are_equal_in_evaluation_and_in_training() -> None:
    source = _tokens()
    first = source()
    assert {name: tuple(entry.offsets.shape) for name, entry in first.items()} == {
        "l": (STAGES, 2, COUNT, WIDTH), "g": (STAGES, 2, 1, WIDTH + 2),
    }  # fmt: skip
    for _ in range(2):
        assert all(torch.equal(first[name].offsets, entry.offsets) for name, entry in source().items())
        source.eval()


def test_faces_do_not_meet() -> None:
    together, alone = _tokens(2), _tokens(1, first=1)
    torch.testing.assert_close(together()["l"].offsets[:, 1:], alone()["l"].offsets, rtol=0, atol=1e-6)
    together()["l"].offsets[:, 0].square().sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in together.faces[1].parameters())


def test_each_stage_sees_its_own_scale_and_every_place_of_it() -> None:
    features = _features(1)
    source = MsiTokens(features, {"l": torch.zeros(2, 4) + torch.arange(4.0)}, [0], STAGES)
    before = source()["l"].offsets
    for scale in range(5):
        for place in (0, 8):
            changed = [f.clone() for f in features]
            changed[scale][0, place] = torch.linspace(-3.0, 3.0, CHANNELS[scale])
            source.features = changed
            moved = (source()["l"].offsets - before).abs().amax((1, 2, 3)) > 0
            assert moved.nonzero().flatten().tolist() == [2 * scale, 2 * scale + 1]


def test_the_first_tokens_are_almost_the_given_ones_and_differ_between_stages() -> None:
    generator = torch.Generator().manual_seed(2)
    start = 0.01 * torch.randn(4, 32, generator=generator)
    tokens = MsiTokens(_features(1), {"l": start}, [0], STAGES)()["l"].offsets[:, 0]
    error = (tokens - start).norm(dim=-1) / start.norm(dim=-1)
    assert 0.0 < float(error.detach().max()) < 0.1
    assert not torch.equal(tokens[0], tokens[1])


def test_the_module_learns() -> None:
    task = make_task(2)
    task = Lesson(task.model, lambda t: t["l"], task.schedule, task.latents, task.seeds, STAGES)
    start = {"l": torch.linspace(-0.1, 0.1, 2 * WIDTH).view(2, WIDTH)}
    settings = LearningSettings(steps=20, learning_rate=0.03, check_every=10, patience=0)
    state = TokenLearner(task, MsiTokens(_features(2), start, [0, 1], STAGES), settings).run()
    ideal = torch.stack([ideal_errors(draw(task, [i], HELD_OUT, settings.held_out, even=True), STAGES) for i in (0, 1)], dim=1)
    left = (state.best_errors - ideal).mean(0) / (state.history[0] - ideal).mean(0)
    assert float(left.max()) < 0.35


def test_features_of_the_builtin_encoder_are_of_a_real_picture() -> None:
    face_model = load_face_model()
    crop = sample_crop(face_model.resolution)
    seen: list[Tensor] = []
    hook = face_model.autoencoder.enc[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        features = autoencoder_features(face_model.autoencoder, crop)
        other = autoencoder_features(face_model.autoencoder, crop.flip(-1) * 0.5)
    hook.remove()
    levels = ((seen[0] + 1) * 127.5).round()
    assert len(levels.unique()) >= 50
    assert float(levels.max() - levels.min()) >= 100
    assert [f.shape[2] for f in features] == [160, 256, 256, 256, 256]
    assert [f.shape[1] for f in features] == [1024, 256, 256, 256, 256]
    for mine, theirs in zip(features, other, strict=True):
        assert float(torch.cosine_similarity(mine.flatten(1), theirs.flatten(1))) < 0.999


def test_features_of_a_black_picture_are_refused() -> None:
    black = [torch.zeros(1, 9, width) for width in CHANNELS]
    with pytest.raises(InputError, match="Expected features of a picture, got the same at every place"):
        MsiTokens(black, {"l": torch.ones(1, 4)}, [0], STAGES)
    with pytest.raises(InputError, match=r"Expected features \(1, T, C\) at 5 scales, got"):
        MsiTokens(_features(1)[:3], {"l": torch.ones(1, 4)}, [0], STAGES)
